"""What can go wrong between a checkpoint and a server."""

from __future__ import annotations

from reelkind.core.errors import ReelkindError


class ExportError(ReelkindError):
    """A graph or a model repository cannot be made; the message names what is missing and the way out."""


class ParityError(ReelkindError):
    """Two rungs of the parity ladder differ by more than is allowed; the message names rung, error and tolerance."""
