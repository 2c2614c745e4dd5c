"""Errors to sentences for whoever dropped the file: what is wrong, and the way out. No path of this machine in them."""

from __future__ import annotations

from reelkind.client import (
    AccessDenied,
    ClientError,
    FeaturesError,
    InvalidOption,
    ModelUnavailable,
    RequestTimeout,
    ServerBusy,
    ServerUnavailable,
    VideoError,
)

_WAYS_OUT: tuple[tuple[type[ClientError], str], ...] = (
    (ServerBusy, "The inference server has too much to do. Try again in a minute."),
    (RequestTimeout, "The inference server did not answer in time. Try again in a minute."),
    (ModelUnavailable, "The inference server does not have this model now. Choose another member, or try again later."),
    (ServerUnavailable, "The inference server cannot be reached. It is being restarted, or whoever runs it must look."),
    (AccessDenied, "The inference server wants credentials that this page does not have. Tell whoever runs it."),
)


def sentence(error: Exception, name: str) -> str:
    """What to tell.

    Args:
        error: what went wrong.
        name: what the user calls the file.
    """
    if isinstance(error, VideoError):
        return f"“{name}” cannot be classified: {_inline(error.reason)}. {_way_out(error.reason)}"
    if isinstance(error, FeaturesError):
        return f"“{name}” cannot be used: {_inline(error.reason)}."
    if isinstance(error, InvalidOption):
        return "These options cannot be had from this server: choose another member, or a confidence of your own."
    for kind, text in _WAYS_OUT:
        if isinstance(error, kind):
            return text
    return f"“{name}” could not be classified, and it is not your fault. Whoever runs this page finds why in its log."


def _way_out(reason: str) -> str:
    if "lasts" in reason and "at most" in reason:
        return "Cut it shorter and try again."
    if "took longer" in reason:
        return "Convert it to MP4 (H.264), which decodes faster, and try again."
    return (
        "If it plays elsewhere, convert it to MP4 (H.264) and try again; if it does not, get it anew from its source."
    )


def _inline(reason: str) -> str:
    """A reason inside a sentence: without its full stop."""
    return reason.strip().rstrip(".")
