"""Text of an argument to a number, or to argparse's complaint."""

from __future__ import annotations

import argparse
import math

from reelkind.core.errors import ReelkindError

MAX_SECONDS = 86_400  # system calls overflow at some weeks
MIN_FRAMES_PER_SECOND, MAX_FRAMES_PER_SECOND = 0.001, 1000  # video.clip's, which --help need not load
SWITCH_PENALTY = 3.0  # core.timing.segments', likewise
RATE, WINDOW_S = 2.0, 2.0  # core.timing.timeline's, likewise
CPU_PRECISIONS = ("auto", "fp32", "int8")  # export.repository.execution.CPU_PRECISIONS, not imported for --help's sake
MAX_QUEUE_HELP = "refuse requests while N wait for a backbone (default: 64 on a CPU, no limit on a GPU)"


class UsageError(ReelkindError):
    """Options that do not go together."""


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


def frames_per_second(text: str) -> float:
    """A rate, between those of the slowest and the fastest stream."""
    value = float(text)
    if not MIN_FRAMES_PER_SECOND <= value <= MAX_FRAMES_PER_SECOND:
        raise argparse.ArgumentTypeError(f"must be from {MIN_FRAMES_PER_SECOND} to {MAX_FRAMES_PER_SECOND}, got {text}")
    return value


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to 1, got {text}")
    return value


def nats(text: str) -> float:
    """An amount of evidence, at least 0."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number, at least 0, got {text}")
    return value


def header(text: str) -> tuple[str, str]:
    """NAME=VALUE to both."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"write NAME=VALUE, got {text!r}")
    return name, value


def add_precision(parser: argparse.ArgumentParser) -> None:
    """``--precision`` of whatever serves bundles on a CPU."""
    parser.add_argument(
        "--precision",
        choices=CPU_PRECISIONS,
        default="auto",
        help="of backbones on a CPU; auto: int8 for members stored so, else fp32 (default: %(default)s)",
    )
