"""URIs to finished rows, by Ray Data: on this machine, or on a cluster that is there."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .classifier import Classifier, Task
from .errors import BulkError
from .parts import Writer
from .rows import UNANSWERED

if TYPE_CHECKING:
    import pyarrow as pa

LARGEST_BLOCK = 32  # inputs that one call of an actor takes: also what is done again when an actor dies
MOST_UNANSWERED = 64  # in a row: then the servers are gone, and asking on would only cost time
_LONGEST_TEMPORARY = 20  # characters: a socket's path has 107, of which Ray's own names take 70


@dataclass(frozen=True)
class Outcome:
    """What a run brought.

    Attributes:
        num_new: rows that were written.
        num_unanswered: inputs without a row, because no server answered.
        reason: a sentence on the last of these.
    """

    num_new: int
    num_unanswered: int
    reason: str | None


def run(
    uris: Sequence[str],
    task: Task,
    writer: Writer,
    *,
    num_actors: int | None,
    address: str | None,
    progress: Callable[[int], object],
) -> Outcome:
    """Have all URIs answered and their rows written; what is interrupted keeps the rows that were finished.

    Args:
        uris: those without a row.
        task: what is wanted of each.
        writer: takes the rows; flushed at the end, whatever ends it.
        num_actors: decoding processes; None for one a CPU.
        address: of a Ray cluster; None for one of this process.
        progress: called with the number of new rows.

    Raises:
        BulkError: if Ray does not start or gives up.
    """
    num_new = num_unanswered = in_a_row = 0
    reason = None
    with _ray(address, num_actors) as num_cpus:
        import pyarrow.compute as pc
        from ray.exceptions import RayError

        try:
            for table in _answers(uris, task, num_actors or num_cpus):
                problems = table.column(UNANSWERED)
                good = table.filter(pc.is_null(problems)).drop_columns([UNANSWERED])
                new = writer.add(good)
                progress(new)
                num_new += new
                num_unanswered += table.num_rows - good.num_rows
                in_a_row = 0 if good.num_rows else in_a_row + table.num_rows
                reason = pc.drop_null(problems)[-1].as_py() if good.num_rows < table.num_rows else reason
                if in_a_row >= MOST_UNANSWERED:
                    break
        except RayError as error:
            raise BulkError(f"Ray gave up: {str(error).strip().splitlines()[-1]}") from error
        finally:
            writer.flush()
    return Outcome(num_new, num_unanswered, reason)


def _answers(uris: Sequence[str], task: Task, num_actors: int) -> Iterator[pa.Table]:
    import pyarrow as pa
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # ours tells what matters
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    size = max(1, min(LARGEST_BLOCK, len(uris) // (4 * num_actors)))
    blocks = [pa.table({"uri": pa.array(uris[at : at + size], pa.string())}) for at in range(0, len(uris), size)]
    answered = ray.data.from_arrow(blocks).map_batches(
        Classifier,
        fn_constructor_args=(task,),
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=min(num_actors, len(blocks))),
        num_cpus=1,
    )
    yield from answered.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


@contextmanager
def _ray(address: str | None, num_cpus: int | None) -> Iterator[int]:
    """Ray for as long as the block lasts, without dashboard, reports to its makers or files that stay; its CPUs."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # before it is imported
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what matters becomes an error of ours
    import ray

    here = tempfile.gettempdir()
    place = tempfile.mkdtemp(prefix="reelkind-", dir=here if len(here) <= _LONGEST_TEMPORARY else "/tmp")
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    try:
        try:
            if address:
                ray.init(address, **options)
            else:
                ray.init("local", num_cpus=num_cpus, include_dashboard=False, _temp_dir=place, **options)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise BulkError(f"Ray does not start: {error}") from error
        try:
            yield max(1, int(ray.cluster_resources().get("CPU", 1)))
        finally:
            ray.shutdown()
    finally:
        shutil.rmtree(place, ignore_errors=True)
