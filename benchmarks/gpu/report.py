"""The report of a GPU check: what was measured, what was not and why, as JSON and as a table."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")

logger = logging.getLogger(__name__)


@dataclass
class Report:
    """What was measured so far; on disk after every step, because a card may go away.

    Attributes:
        path: the JSON file.
        content: its content; ``not_run`` lists what could not be measured.
    """

    path: Path
    content: dict[str, Any] = field(default_factory=lambda: {"not_run": []})

    def attempt(self, what: str, step: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T | None:
        """What a step gives, or None and a note of the reason: one way that fails must not cost the others."""
        logger.info("%s", what)
        try:
            return step(*args, **kwargs)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            self.content["not_run"].append({"what": what, "reason": reason})
            logger.warning("%s: not run: %s", what, reason)
            return None
        finally:
            self.save()

    def save(self) -> None:
        """Write the whole file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.content, indent=2) + "\n", encoding="utf-8")

    @property
    def passed(self) -> bool:
        """Whether something was timed, and every ladder that was to be climbed was, without a fault."""
        parity = self.content.get("parity", {})
        climbed = parity.keys() == self.content.get("members", {}).keys() and bool(parity)
        return climbed and all(ladder["passed"] for ladder in parity.values()) and bool(self.content.get("speed"))

    def table(self) -> str:
        """What a reader wants first."""
        lines = [
            f"{'graph':<30} {'executor':<20} {'B V T':<8} {'ms':>9} {'frames/s':>10} {'TFLOP/s':>8} {'of peak':>8}"
        ]
        for row in self.content.get("speed", []):
            share = f"{row['fraction_of_peak']:.1%}" if "fraction_of_peak" in row else "unknown"
            lines.append(
                f"{row['graph']:<30} {row['executor']:<20} {' '.join(map(str, row['shape'])):<8} "
                f"{row['median_ms']:>9.3f} {row['frames_per_second']:>10.0f} {row['tflops']:>8.2f} {share:>8}"
            )
        for name, found in self.content.get("memory", {}).items():
            lines.append(f"memory, {name}: {found['used_bytes'] / 1e9:.2f} GB of {found['cap_bytes'] / 1e9:.2f} GB")
        for name, ladder in self.content.get("parity", {}).items():
            lines += [f"parity of {name}:", ladder["table"]]
        lines += [f"not run: {entry['what']}: {entry['reason']}" for entry in self.content["not_run"]]
        return "\n".join(lines)
