"""Nested tables of plain values to frozen dataclasses; unknown keys and wrong types fail by name."""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from reelkind.core.errors import ConfigError

T = TypeVar("T")


def apply_override(raw: dict[str, Any], override: str) -> None:
    """Set one value of nested tables by ``a.b=value``, written as in TOML (bare words are strings).

    Raises:
        ConfigError: if it is not of that form, or goes through something that is no table.
    """
    key, separator, text = override.partition("=")
    if not separator:
        raise ConfigError(f"override {override!r} is not of the form a.b=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    table = raw
    *parents, last = key.strip().split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise ConfigError(f"override {override!r}: {parent} is not a table")
    table[last] = value


def build(schema: type[T], raw: Mapping[str, Any], prefix: str = "") -> T:
    """Nested tables to a dataclass of dataclasses.

    Raises:
        ConfigError: if a key is unknown or a value has the wrong type.
    """
    types = typing.get_type_hints(schema)
    known = [entry.name for entry in dataclasses.fields(schema)]  # type: ignore[arg-type]
    values = {}
    for key, value in raw.items():
        if key not in known:
            raise ConfigError(f"unknown key {prefix}{key} (known: {', '.join(known)})")
        values[key] = _convert(types[key], value, prefix + key)
    return schema(**values)


def _convert(wanted: Any, value: Any, key: str) -> Any:
    if dataclasses.is_dataclass(wanted):
        if not isinstance(value, dict):
            raise ConfigError(f"{key} must be a table, got {value!r}")
        return build(typing.cast(type, wanted), value, f"{key}.")
    if typing.get_origin(wanted) is tuple:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ConfigError(f"{key} must be a list of strings, got {value!r}")
        return tuple(value)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not wanted:
        raise ConfigError(f"{key} must be {wanted.__name__}, got {value!r}")
    return value
