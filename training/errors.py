"""What can go wrong in training through no fault of the code."""

from __future__ import annotations

from reelkind.core.errors import ReelkindError


class ConfigError(ReelkindError):
    """A training configuration is unreadable, contradicts itself or names something unknown."""


class DataError(ReelkindError):
    """The training data are missing, unreadable or too few; the message names the file."""


class LeakError(DataError):
    """A work, or a file, is on both sides of a split."""


class TrainingError(ReelkindError):
    """A training cannot go on; the message names stage, step and what to change."""
