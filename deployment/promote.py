"""A running server with one version of a member to the same server with another, without an unanswered request.

    load the new versions beside the old ─► check ─► switch all ensembles ─► ask each of them ─► unload the old

Whatever fails on the way is undone. What the server must not lose is on disk (see ``versions.py``); what it does is
asked of it over its restricted API.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reelkind.serving.control import CanaryError, Control
from reelkind.serving.errors import ServingError

from .member_configs import members_of
from .versions import VersionedRepository

logger = logging.getLogger(__name__)

_CANARY_TIMEOUT_S = 60.0
_CANARY_FRAMES = 1
_UNLOAD_S = 60.0
_POLL_S = 0.1


@dataclass(frozen=True)
class Served:
    """An ensemble executed from here, step by step, in the versions that its configuration names."""

    config: Any
    control: Control

    @property
    def kind(self) -> str:
        """``classify``, ``features`` or ``classify_features``."""
        return str(self.config.parameters["kind"].string_value)

    @property
    def members(self) -> list[str]:
        """Whose answers it averages."""
        return members_of(self.config)

    @property
    def num_steps(self) -> int:
        """How many models it passes."""
        return len(_steps(self.config))

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Every tensor of the ensemble by name, for the arrays of its inputs.

        Raises:
            CanaryError: if a step does not answer.
        """
        tensors = dict(feeds)
        for step in _steps(self.config):
            inputs = {name: tensors[source] for name, source in step.input_map.items()}
            outputs = self.control.infer(step.model_name, inputs, _CANARY_TIMEOUT_S, str(step.model_version))
            tensors |= {target: outputs[name] for name, target in step.output_map.items()}
        return tensors


Check = Callable[[Mapping[str, Served], Mapping[str, Served]], None]
"""Given every changed ensemble as it was and as it would be, raises ReelkindError if it should not be."""


def promote(
    control: Control,
    store: VersionedRepository,
    configs: Mapping[str, Any],
    files: Mapping[str, Mapping[str, Path | bytes]],
    check: Check,
) -> dict[str, int]:
    """Serve other versions of some composing models, in all ensembles at once.

    Args:
        control: of the running server.
        store: its repository, locked.
        configs: new configurations of the ensembles concerned.
        files: composing model -> name -> content of its new version.
        check: is asked before anybody gets an answer of the new versions.

    Returns:
        Composing model -> version that answers now.

    Raises:
        ReelkindError: the check's, or a ServingError; the server answers as before, or not at all.
    """
    with _settled(control, store) as number:
        for model, content in files.items():
            store.add_version(model, number, content)
        for config in configs.values():
            for step in _steps(config):
                step.model_version = number if step.model_name in files else step.model_version
        _change(control, store, number, {**store.ensembles(), **configs}, check)
    return dict.fromkeys(files, number)


def roll_back(control: Control, store: VersionedRepository, check: Check) -> dict[str, int]:
    """Serve the versions before the last change; a second call comes back to it.

    Args, returns and raises as ``promote``.
    """
    previous = store.previous()
    if previous is None:
        raise ServingError(f"nothing has been promoted in {store.folder}: there is no version to go back to")
    served = _versions_of(store.ensembles())
    with _settled(control, store) as number:
        _change(control, store, number, previous, check)
    back = _versions_of(previous)
    return {model: max(back[model]) for model in sorted(back) if back[model] != served[model]}


@contextmanager
def _settled(control: Control, store: VersionedRepository) -> Iterator[int]:
    """Begin and end with nothing loaded or kept but what is needed, whatever an earlier run left behind.

    Yields:
        The number of the change to come.
    """
    try:
        _require_same(control, store)
        store.adopt()
        _settle(control, store)
        store.tidy()
        try:
            yield store.new_number()
        finally:
            _clean_up(control, store)
    except OSError as error:
        raise ServingError(
            f"{error.filename or store.folder} cannot be written: {error.strerror}; promotion needs a repository that "
            "may be written, with room for one more version of the member"
        ) from error
    except CanaryError as error:
        raise ServingError(f"the server does not do what promotion needs: {error}") from error


def _clean_up(control: Control, store: VersionedRepository) -> None:
    try:
        _settle(control, store)
        store.tidy()
    except (OSError, CanaryError) as error:
        logger.warning("versions that nobody needs are left over, the next promotion removes them: %s", error)


def _change(control: Control, store: VersionedRepository, number: int, target: Mapping[str, Any], check: Check) -> None:
    before = store.ensembles()
    changed = [name for name, config in target.items() if _differs(config, before[name])]
    switched = False
    try:
        logger.info("loading what is new")
        _load_beside(control, store, before, target)
        logger.info("checking it")
        check(
            {name: Served(before[name], control) for name in changed},
            {name: Served(target[name], control) for name in changed},
        )
        logger.info("switching %d ensembles", len(changed))
        store.switch(number, target)
        switched = True
        for name in changed:
            control.load(name)
        for name in changed:
            control.canary(target[name], _CANARY_TIMEOUT_S, _CANARY_FRAMES)
        logger.info("unloading what is old")
    except BaseException as error:
        if switched:
            store.switch_back()
        is_live = control.is_live()
        if switched and is_live:
            _load_again(control, changed)
        if isinstance(error, CanaryError):
            state = "the server answers as before" if is_live else "the repository is as before, but no server answers"
            raise ServingError(f"not promoted, {state}: {error}") from error
        raise


def _load_again(control: Control, names: Iterable[str]) -> None:
    for name in names:
        try:
            control.load(name)
        except CanaryError as error:  # another step of the way back helps
            logger.warning("%s", error)


def _load_beside(
    control: Control, store: VersionedRepository, before: Mapping[str, Any], target: Mapping[str, Any]
) -> None:
    needed = _versions_of(before)
    for model, versions in _versions_of(target).items():
        both = needed[model] | versions
        if store.load_only(model, both):
            control.load(model)
            missing = both - {int(version) for version in control.versions(model)}
            if missing:
                raise CanaryError(f"{model} has no version {', '.join(map(str, sorted(missing)))} after loading it")


def _settle(control: Control, store: VersionedRepository) -> None:
    """Have the server read the ensembles as they are, load exactly the versions they take, and see others go."""
    for name, config in store.ensembles().items():
        if _wiring(control.config(name)) != _wiring(config):
            control.load(name)
    for model, versions in _versions_of(store.ensembles()).items():
        loaded = {int(version) for version in control.versions(model)}
        if store.load_only(model, versions) or loaded != versions:
            control.load(model)
        deadline = time.monotonic() + _UNLOAD_S
        while {int(version) for version in control.versions(model)} != versions:
            if time.monotonic() > deadline:
                logger.warning("%s: a version that nobody needs stays loaded", model)
                break
            time.sleep(_POLL_S)


def _require_same(control: Control, store: VersionedRepository) -> None:
    """Refuse a repository that is not the one the server has read, now or before a promotion that was cut short."""
    for name, config in store.ensembles().items():
        known = [config, *(earlier[name] for earlier in store.generations() if name in earlier)]
        if control.config(name).parameters not in [version.parameters for version in known]:
            raise ServingError(f"the server's {name} is not the one in {store.folder}: give the repository it serves")


def _wiring(config: Any) -> tuple[list[tuple[str, int]], list[int]]:
    """Which versions of which models an ensemble takes, and its own."""
    steps = [(step.model_name, step.model_version) for step in _steps(config)]
    return steps, list(config.version_policy.specific.versions)


def _versions_of(configs: Mapping[str, Any]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for config in configs.values():
        for step in _steps(config):
            found.setdefault(step.model_name, set()).add(step.model_version)
    return found


def _differs(config: Any, other: Any) -> bool:
    """Whether an ensemble is another in anything but its own version."""
    ours, theirs = type(config)(), type(other)()
    ours.CopyFrom(config)
    theirs.CopyFrom(other)
    theirs.version_policy.CopyFrom(ours.version_policy)
    return bool(ours != theirs)


def _steps(config: Any) -> Any:
    return config.ensemble_scheduling.step
