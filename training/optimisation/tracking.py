"""What a run measures to ``metrics.jsonl``, the log and TensorBoard."""

from __future__ import annotations

import copy
import json
import logging
import shutil
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


class MetricsLog:
    """One JSON object a line.

    Attributes:
        lines: everything written so far, also through views made by `labelled`.
    """

    def __init__(self, path: Path | None = None, tensorboard: Path | None = None) -> None:
        """Start a log.

        Args:
            path: file the lines are appended to; None writes nowhere.
            tensorboard: folder of TensorBoard's events, emptied; None for none.
        """
        self.path = path
        self.lines: list[dict[str, Any]] = []
        self._labels: dict[str, Any] = {}
        self._writer = _tensorboard_writer(tensorboard) if tensorboard else None

    def clear(self) -> None:
        """Forget an earlier run's file."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def labelled(self, **labels: Any) -> MetricsLog:
        """A view of the same log that adds these fields to every line."""
        view = copy.copy(self)
        view._labels = {**self._labels, **labels}
        return view

    def write(self, **fields: Any) -> None:
        """Append a line; numbers of a line that has a ``step`` go to TensorBoard."""
        line = {**self._labels, **fields}
        logger.debug("%s", line)
        self.lines.append(line)
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        if self._writer is not None and "step" in line:
            place = "/".join(str(line[key]) for key in ("run", "stage") if key in line)
            for key, value in line.items():
                if isinstance(value, float):
                    self._writer.add_scalar(f"{place}/{key}", value, line["step"])

    def close(self) -> None:
        """Flush TensorBoard's events."""
        if self._writer is not None:
            self._writer.close()


def _tensorboard_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.info("no TensorBoard events: pip install tensorboard")
        return None
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / ".gitignore").write_text("*\n", encoding="utf-8")  # events name the machine they were written on
    return SummaryWriter(folder)
