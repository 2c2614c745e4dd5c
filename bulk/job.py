"""URIs to finished rows, by Ray Data: on this machine, or on a cluster that is there."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .classifier import Classifier, Task
from .errors import BulkError
from .node_servers import NodeServers
from .parts import Writer
from .rows import UNANSWERED

if TYPE_CHECKING:
    import pyarrow as pa

LARGEST_BLOCK = 32  # inputs that one call of an actor takes: also what is done again when an actor dies
MOST_UNANSWERED = 64  # in a row: then the servers are gone, and asking on would only cost time
_LONGEST_TEMPORARY = 20  # characters: a socket's path has 107, of which Ray's own names take 70
_LOOPBACK = "127.0.0.1"
_STARTS = 2  # Ray gives its own node 30 s to start, too little for a machine that is busy

Progress = Callable[[int], object]


def run(
    uris: Sequence[str],
    task: Task,
    writer: Writer,
    *,
    num_actors: int | None,
    address: str | None,
    progress: Progress,
) -> str | None:
    """Have URIs answered and their rows written, those a server failed to answer again as long as that helps.

    What ends early, by whatever error, keeps the rows that were finished.

    Args:
        uris: those without a row.
        task: what is wanted of each.
        writer: takes the rows.
        num_actors: decoding processes, at most one a CPU of the cluster; None for as many.
        address: of a Ray cluster; None for one of this process.
        progress: called with the number of new rows.

    Returns:
        Why inputs are still without a row; None if all have theirs.

    Raises:
        BulkError: if Ray does not start or gives up.
    """
    with _ray(address, num_actors, writer.folder) as num_cpus:
        from ray.exceptions import RayError

        try:
            with task.server.running() if isinstance(task.server, NodeServers) else nullcontext():
                return _answer_all(uris, task, writer, min(num_actors or num_cpus, num_cpus), progress)
        except RayError as error:
            raise BulkError(f"Ray gave the job up: {str(error).strip().splitlines()[-1]}") from error
        finally:
            writer.flush()


def _answer_all(uris: Sequence[str], task: Task, writer: Writer, num_actors: int, progress: Progress) -> str | None:
    """Ask for those without a row until they are none, or asking brought none; why then."""
    missing = list(uris)
    while missing:
        reason = _answer(missing, task, writer, num_actors, progress)
        still = [uri for uri in missing if uri not in writer.finished]
        if len(still) == len(missing):
            return reason
        missing = still
    return None


def _answer(uris: Sequence[str], task: Task, writer: Writer, num_actors: int, progress: Progress) -> str | None:
    """Ask for each once; the last reason why one was not answered."""
    import pyarrow.compute as pc

    reason, num_in_a_row = None, 0
    for table in _answers(uris, task, num_actors):
        answered = table.filter(pc.is_null(table.column(UNANSWERED)))
        progress(writer.add(answered.drop_columns([UNANSWERED])))
        if answered.num_rows < table.num_rows:
            reason = pc.drop_null(table.column(UNANSWERED))[-1].as_py()
        num_in_a_row = 0 if answered.num_rows else num_in_a_row + table.num_rows
        if num_in_a_row >= MOST_UNANSWERED:
            break
    return reason


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
        compute=ray.data.ActorPoolStrategy(
            size=min(num_actors, len(blocks)),
            max_concurrent_calls_per_actor=2,  # the last of one block are not waited for by the first of the next
            enable_true_multi_threading=True,
        ),
        num_cpus=1,
    )
    yield from answered.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


@contextmanager
def _ray(address: str | None, num_cpus: int | None, folder: Path) -> Iterator[int]:
    """Ray for as long as the block lasts, without dashboard or reports to its makers; its CPUs.

    Its files have a place that the next job with the same output takes, so that those of a killed one do not stay.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # before it is imported
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what matters becomes an error of ours
    import ray

    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address:
        _start(address, options)
        try:
            yield _num_cpus()
        finally:
            ray.shutdown()
        return
    temporary = tempfile.gettempdir()
    name = f"reelkind-bulk-{sha256(os.fsencode(folder.resolve())).hexdigest()[:8]}"
    place = Path(temporary if len(temporary) <= _LONGEST_TEMPORARY else "/tmp", name)
    shutil.rmtree(place, ignore_errors=True)
    options |= {
        "num_cpus": num_cpus,
        "include_dashboard": False,
        "_temp_dir": str(place),
        "_node_ip_address": _LOOPBACK,
    }
    try:
        _start("local", options)
        yield _num_cpus()
    finally:
        ray.shutdown()
        shutil.rmtree(place, ignore_errors=True)


def _start(address: str, options: dict[str, Any]) -> None:
    """Start Ray, or join it.

    Raises:
        BulkError: if it does not start.
    """
    import ray

    for starts_left in reversed(range(_STARTS)):
        try:
            ray.init(address, **options)
            return
        except Exception as error:  # Ray raises that very class too
            ray.shutdown()
            if not starts_left:
                where = "on this machine" if address == "local" else f"at {address}"
                raise BulkError(f"no Ray {where}: {' '.join(str(error).split())}") from error


def _num_cpus() -> int:
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))
