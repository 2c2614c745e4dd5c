"""Fields of a form to a job's options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reelkind.core.specs import TTA

from .problems import ProblemError

MAX_NAME_CHARS = 200
MAX_URL_CHARS = 2000
_TRUE, _FALSE = ("true", "1", "on", "yes"), ("false", "0", "off", "no", "")


def read_options(form: Mapping[str, str]) -> dict[str, Any]:
    """``member``, ``tta``, ``abstain`` and ``timeline``, checked.

    Raises:
        ProblemError: 422, if one of them cannot be.
    """
    member = form.get("member") or None
    if member is not None and (len(member) > MAX_NAME_CHARS or not member.isprintable()):
        raise ProblemError(422, "member: no member is called so; GET /api/models lists them.")
    tta = form.get("tta") or "off"
    if tta not in TTA:
        raise ProblemError(422, f"tta: must be one of {', '.join(TTA)}.")
    return {
        "member": member,
        "tta": tta,
        "abstain": _abstain(form.get("abstain", "")),
        "timeline": _flag("timeline", form.get("timeline", "")),
    }


def _abstain(text: str) -> bool | float:
    """``true``, ``false``, or a confidence; ``1`` and ``0`` are confidences."""
    lower = text.strip().lower()
    if lower in ("true", "on", "yes"):
        return True
    if lower in ("false", "off", "no", ""):
        return False
    try:
        confidence = float(lower)
    except ValueError:
        confidence = -1.0
    if not 0 <= confidence <= 1:
        raise ProblemError(422, "abstain: must be true, false, or a confidence from 0 to 1.")
    return confidence


def _flag(name: str, text: str) -> bool:
    lower = text.strip().lower()
    if lower not in _TRUE + _FALSE:
        raise ProblemError(422, f"{name}: must be true or false.")
    return lower in _TRUE


def shown_name(text: str | None, fallback: str) -> str:
    """What the user calls a file, for showing: the last part, printable, not too long."""
    last = (text or "").replace("\\", "/").rsplit("/", 1)[-1]
    clean = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in last).strip()
    return clean[:MAX_NAME_CHARS] or fallback
