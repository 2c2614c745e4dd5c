"""Text of an argument to a number, or to argparse's complaint."""

from __future__ import annotations

import argparse

MAX_SECONDS = 86_400  # system calls overflow at some weeks


def positive(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def seconds(text: str) -> float:
    """A duration above 0, at most a day."""
    value = float(text)
    if not 0 < value <= MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most {MAX_SECONDS} (a day), got {text}")
    return value
