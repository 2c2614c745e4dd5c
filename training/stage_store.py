"""Finished and unfinished stages on disk, so that an interrupted run goes on where it was."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .optimisation import distributed
from .optimisation.checkpointing import Checkpoint, load_if_whole, save_atomically
from .optimisation.tracking import MetricsLog

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageStore:
    """Results and checkpoints of stages, named by a hash of all they depend on.

    Attributes:
        folder: where they lie.
        every: optimizer steps between checkpoints.
        fresh: whether to ignore, and replace, what an earlier run left.
        temporary: results that only an interrupted run needs, removed when the run is done.
        found: names of what an earlier run left and this one used.
    """

    folder: Path
    every: int
    fresh: bool = False
    temporary: set[Path] = field(default_factory=set)
    found: set[str] = field(default_factory=set)

    def find(self, name: str, log: MetricsLog, temporary: bool = False) -> dict[str, Any] | None:
        """A finished stage's result; its lines are written again."""
        if temporary:
            self.temporary.add(self._path(name))
        result = None if self.fresh else load_if_whole(self._path(name))
        if result is not None:
            logger.info("trained before: %s", self._path(name))
            self.found.add(name)
            for line in result["lines"]:
                log.write(**line)
        return result

    def keep(self, name: str, lines: Sequence[dict[str, Any]], **result: Any) -> None:
        """Store a finished stage's result; what was kept on the way to it, under longer names, is removed."""
        distributed.barrier()  # nobody still looks for that
        if distributed.is_main():
            save_atomically({**result, "lines": list(lines)}, self._path(name))
            for path in self.folder.glob(f"{name}_*.pt"):
                path.unlink()

    def checkpoint(self, name: str) -> Checkpoint:
        """Where a stage keeps its state until it is done."""
        path = self._path(f"{name}_state")
        if self.fresh:
            with distributed.main_first():
                path.unlink(missing_ok=True)
        if path.is_file():
            self.found.add(name)
        return Checkpoint(path, self.every)

    def clean(self) -> None:
        """Remove what only an interrupted run needs."""
        if distributed.is_main():
            for path in self.temporary:
                path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.pt"
