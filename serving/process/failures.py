"""tritonserver's log to the one line that says why it ended, or never will start."""

from __future__ import annotations

import re
import signal

_MODEL_FAILED = re.compile(r"failed to load '(?P<model>[^']+)' version \d+: (?P<reason>.*)")
_STUB_FAILED = re.compile(  # tritonserver waits on for ever
    r"(?:Failed to preinitialize Python stub: |/triton_python_backend_stub: (?=error while loading shared libraries))"
    r"(?P<reason>.*)"
)
_SERVICE_FAILED = re.compile(r"failed to start (?P<service>\w+) service: (?P<reason>.*)")
_ERROR_LINE = re.compile(r"^(?:E\d{4} .*?\] \"?|error: |(?=cannot execute ))(?P<reason>.*)", re.MULTILINE)
_NOISE = ("CudaDriverHelper", "unable to create stream", "pinned memory")
_TAKEN = "already in use"
_FAULTS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)
_SIGNALLED = 128  # shells' and our guard's way to tell an exit status from a signal


def crashed(exit_status: int | None) -> bool:
    """Whether a fault of its own ended tritonserver, not an error it found or somebody's signal."""
    return _signal_of(exit_status) in _FAULTS


def explain(log: bytes, exit_status: int | None) -> str:
    """One line for the user; names the model and its own reason where a model was at fault."""
    if (number := _signal_of(exit_status)) is not None:
        return f"tritonserver was killed by signal {number}"
    text = log.decode(errors="replace")
    fatal = _fatal(text)
    if fatal is not None:
        return fatal
    errors = [_tidy(found["reason"]) for found in _ERROR_LINE.finditer(text)]
    errors = [reason for reason in errors if not any(word in reason for word in _NOISE)]
    if errors:
        return f"tritonserver ended: {errors[0]}"  # what follows the first are its consequences
    return f"tritonserver ended with exit status {exit_status} and no reason in its log"


def is_fatal(log: bytes) -> bool:
    """Whether it has already said that it will not start; ending takes it seconds more, or for ever."""
    return _fatal(log.decode(errors="replace")) is not None


def _signal_of(exit_status: int | None) -> int | None:
    if exit_status is None or 0 <= exit_status <= _SIGNALLED:
        return None
    return abs(exit_status) % _SIGNALLED


def port_was_taken(log: bytes) -> bool:
    """Whether a port was lost to another program."""
    found = _SERVICE_FAILED.search(log.decode(errors="replace"))
    return found is not None and _TAKEN in found["reason"]


def _fatal(text: str) -> str | None:
    found = _MODEL_FAILED.search(text)
    if found:
        return f"tritonserver cannot load {found['model']}: {_tidy(found['reason'])}"
    found = _STUB_FAILED.search(text)
    if found:
        return f"tritonserver cannot load a Python model: {_tidy(found['reason'])}"
    found = _SERVICE_FAILED.search(text)
    if found:
        taken = "its port was taken by another program" if _TAKEN in found["reason"] else _tidy(found["reason"])
        return f"tritonserver cannot offer {found['service']}: {taken}"
    return None


def _tidy(reason: str) -> str:
    """Without the kind of error, the position in a Python file, and quotes."""
    reason = reason.split("\\n")[0].rstrip('" ')
    return re.sub(r"^(?:Internal|Invalid argument|Not found|Unavailable)(?:: | - )(?:\w*Exception: )?", "", reason)
