"""`reelkind bulk` on a Ray cluster of this machine: what is lost when parts of it die, and what it costs.

    python -m reelkind.benchmarks.bulk.jobs [--videos 2000] [--member lite] [--frames N] [--quick]

Videos of two seconds are made on the spot, 5 % of them bad. One server on this machine answers all, two nodes with one
CPU each are the cluster. In turns: the plain client loop over half of the videos, jobs over few and many and all of
them, the loop over the other half; then the job again while a worker, its driver and tritonserver are killed. Every
row is compared with what the loop said. The job that is killed has a third of its videos from this machine, a third by
HTTP and a third from S3 (moto's server). A peer does the same job with plain Ray Data and PyTorch eager.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from reelkind.benchmarks import environment
from reelkind.benchmarks.bulk import made_videos, page, stores
from reelkind.benchmarks.bulk.answers import Answers, compare, differing
from reelkind.benchmarks.bulk.cluster import BRIEF, Cluster, two_nodes
from reelkind.benchmarks.bulk.watch import Watch, cpu_s, find, growth
from reelkind.benchmarks.failover import kill
from reelkind.benchmarks.serving_overhead import RESULTS
from reelkind.bulk import parts
from reelkind.client import Client, Failure, Prediction, ProcessDecoder
from reelkind.core import specs
from reelkind.deployment.embedded import embedded_server, packaged_bundle
from reelkind.serving.server import TritonServer

BAD_SHARE = 0.05
MOMENTS = 20  # of each process that are kept
PART_S = 2.0  # of jobs that parts are killed of, so that there is something to keep
MANY_PARTS = f"""
import sys
from reelkind.bulk import parts
from reelkind.cli.main import main
parts.SECONDS_PER_PART = {PART_S}
sys.exit(main(sys.argv[1:]))
"""


class Stand:
    """What all measurements share.

    Args:
        cluster: that runs the jobs.
        server: that answers.
        options: of the command.
    """

    def __init__(self, cluster: Cluster, server: TritonServer, options: Sequence[str]) -> None:
        self.cluster, self.server, self.options = cluster, server, options

    def start(
        self, uris: Iterable[str | Path], out: Path, *, program: Sequence[str] = ("-m", "reelkind")
    ) -> subprocess.Popen[str]:
        """A job under way."""
        common = ["--out", str(out), "--url", self.server.url, "--ray", self.cluster.address, "--no-progress"]
        job = subprocess.Popen(
            [sys.executable, *program, "bulk", "-", *common, *self.options],
            stdin=subprocess.PIPE,
            text=True,
            env={**os.environ, **BRIEF},
        )
        assert job.stdin is not None
        job.stdin.write("".join(f"{uri}\n" for uri in uris))
        job.stdin.close()
        return job

    def watch(self) -> Watch:
        """Of cluster and server; jobs are added."""
        return Watch([*self.cluster.processes, *self.server.process_ids()])


def plain_loop(
    stand: Stand, videos: Sequence[Path], num_frames: int | None
) -> tuple[dict[str, Prediction | Failure], float, float]:
    """Answers of a client without Ray, seconds, and CPU seconds of client, decoders and server."""
    began, pids, server = time.monotonic(), stand.server.process_ids(), stand.server
    before_s = cpu_s(pids)
    with ProcessDecoder(2) as decoder, Client(server.url, decoder=decoder, num_frames=num_frames) as client:
        answers = dict(zip(map(str, videos), client.classify_many(videos), strict=True))
    return answers, time.monotonic() - began, cpu_s(pids) - before_s


def calm_job(stand: Stand, videos: Sequence[Path], out: Path) -> dict[str, Any]:
    """A job that nothing happens to: seconds of the whole command, CPU seconds of everything, memory."""
    began = time.monotonic()
    with stand.watch() as watch:
        job = stand.start(videos, out)
        watch.add(job.pid)
        status = job.wait()
    seconds = time.monotonic() - began
    memory = [{"process": trace.name, **found} for trace in watch.traces.values() if (found := growth(trace))]
    return {
        "videos": len(videos),
        "status": status,
        "seconds": round(seconds, 1),
        "videos_per_second": round(len(videos) / seconds, 3),
        "cpu_s_per_video": round(watch.cpu_s() / len(videos), 4),
        "bytes_per_row": round(sum(path.stat().st_size for path in parts.paths(out)) / len(videos), 1),
        "memory_mib": memory,
        "memory_over_time": {
            f"{trace.name} {pid}": dict(zip(trace.moments_s[::step], trace.memory_mib[::step], strict=True))
            for pid, trace in watch.traces.items()
            if growth(trace) and (step := max(1, len(trace.moments_s) // MOMENTS))
        },
    }


def stormy_job(stand: Stand, uris: Sequence[str], out: Path) -> dict[str, Any]:
    """A job whose worker, driver and tritonserver are killed, at a fifth, two fifths and three fifths of its rows."""
    many_parts = ("-c", MANY_PARTS)
    job = stand.start(uris, out, program=many_parts)
    _wait(lambda: _num_rows(out) >= len(uris) // 5, job)
    os.kill(find("actor", stand.cluster.processes)[0], signal.SIGKILL)
    _wait(lambda: _num_rows(out) >= 2 * len(uris) // 5, job)
    job.kill()
    job.wait()
    kept = _num_rows(out)
    job = stand.start(uris, out, program=many_parts)
    _wait(lambda: _num_rows(out) >= 3 * len(uris) // 5, job)
    kill(stand.server)
    return {"rows_kept_of_the_killed_driver": kept, "status": job.wait()}


def eager_peer(stand: Stand, videos: Sequence[Path], bundle: Path, scratch: Path) -> dict[str, Any]:
    """The peer's job: seconds and videos a second of the whole command."""
    listed = scratch / "peer.txt"
    listed.write_text("".join(f"{video}\n" for video in videos), encoding="utf-8")
    began = time.monotonic()
    where = ("--address", stand.cluster.address, "--bundle", str(bundle), "--out", str(scratch / "peer"))
    command = [sys.executable, "-m", "reelkind.benchmarks.bulk.eager_peer", str(listed), *where, *stand.options]
    done = subprocess.run(command, check=False, stderr=subprocess.DEVNULL, env={**os.environ, **BRIEF})
    seconds = time.monotonic() - began
    return {
        "videos": len(videos),
        "status": done.returncode,
        "seconds": round(seconds, 1),
        "videos_per_second": round(len(videos) / seconds, 3),
    }


def measure(
    member: str, num_videos: int, num_frames: int | None, sizes: Sequence[int], num_of_peer: int
) -> dict[str, Any]:
    """All of it, JSON-ready.

    Args:
        member: a packaged one.
        num_videos: of the largest job.
        num_frames: of each that are looked at; None for the member's own number.
        sizes: of smaller jobs.
        num_of_peer: videos that the peer gets.
    """
    machine, bundle = environment.describe(), packaged_bundle(member)
    options = [] if num_frames is None else ["--frames", str(num_frames)]
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reelkind-bulk-")))
        videos = made_videos.make(scratch / "videos", num_videos, BAD_SHARE)
        here = {str(video): video for video in videos}
        spread = stack.enter_context(stores.spread(videos))
        cluster = stack.enter_context(two_nodes(spread.variables))
        server = stack.enter_context(embedded_server([bundle], ensembles=[specs.classify_name()]))
        stand = Stand(cluster, server, options)
        half = num_videos // 2
        plain_loop(stand, videos[:8], num_frames)  # warms up
        _say("the plain loop, first half")
        right, first_s, first_cpu_s = plain_loop(stand, videos[:half], num_frames)
        jobs = []
        for size in [*sizes, num_videos]:
            _say(f"a job over {size}")
            jobs.append(calm_job(stand, videos[:size], scratch / f"calm_{size}"))
        _say("the plain loop, second half")
        others, second_s, second_cpu_s = plain_loop(stand, videos[half:], num_frames)
        right |= others
        calm = scratch / f"calm_{num_videos}"
        _say("a job that is killed in parts")
        storm = stormy_job(stand, list(spread.files), scratch / "stormy")
        _say(f"the peer over {num_of_peer}")
        peer = eager_peer(stand, videos[:num_of_peer], bundle, scratch)
        plain_rate = num_videos / (first_s + second_s)
        return {
            "what": "a bulk job on two Ray nodes of this machine, beside a client loop and Ray Data with PyTorch eager",
            "member": member,
            "frames": num_frames,
            "videos": num_videos,
            "bad": sum(video.name.startswith(made_videos.BAD) for video in videos),
            "bytes_per_video": round(sum(video.stat().st_size for video in videos) / num_videos),
            "plain_loop": {
                "seconds": [round(first_s, 1), round(second_s, 1)],
                "videos_per_second": round(plain_rate, 3),
                "cpu_s_per_video": round((first_cpu_s + second_cpu_s) / num_videos, 4),
                **_stage_ms(right),
            },
            "calm": compare(calm, here, right),
            "stormy": {
                **compare(scratch / "stormy", spread.files, right),
                **storm,
                "differs": differing((calm, here), (scratch / "stormy", spread.files)),
            },
            "job_to_plain_loop": round(jobs[-1]["videos_per_second"] / plain_rate, 3),
            "peer": peer,
            "job_of_that_size_to_peer": _beside(jobs, peer),
            "jobs": jobs,
            "machine": machine,
        }


def _beside(jobs: Sequence[Mapping[str, Any]], peer: Mapping[str, Any]) -> float | None:
    """Throughput of the job over as many videos as the peer had, to the peer's."""
    same = next((job for job in jobs if job["videos"] == peer["videos"]), None)
    return None if same is None or peer["status"] else round(same["videos_per_second"] / peer["videos_per_second"], 2)


def _stage_ms(answers: Answers) -> dict[str, float]:
    timings = [answer.timings_ms for answer in answers.values() if isinstance(answer, Prediction)]
    return {
        f"mean_{name}_ms": round(sum(each[name] for each in timings) / len(timings), 1) for name in ("decode", "infer")
    }


def _num_rows(out: Path) -> int:
    return parts.read(out, ["uri"]).num_rows if out.is_dir() else 0


def _wait(condition: Callable[[], bool], job: subprocess.Popen[str]) -> None:
    while not condition():
        if job.poll() is not None:
            raise RuntimeError(f"the job ended too soon, with status {job.returncode}: take more --videos")
        time.sleep(0.2)


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write the JSON artefact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=2000, help="of the largest job (default: 2000)")
    parser.add_argument("--member", default="lite", help="a packaged one (default: lite)")
    parser.add_argument("--frames", type=int, help="of each video (default: the member's own number)")
    parser.add_argument("--beside", default="", help="what else ran on the machine; kept with the figures")
    parser.add_argument("--quick", action="store_true", help="200 videos: to see whether it works; writes nothing")
    parser.add_argument("--json", type=Path, default=RESULTS / "bulk_cpu.json")
    args = parser.parse_args(argv)
    num_videos = 200 if args.quick else args.videos
    sizes = [size for size in ((50,) if args.quick else (200, 600)) if size < num_videos]
    report = measure(args.member, num_videos, args.frames, sizes, sizes[0])
    report["beside"] = args.beside or "nothing"
    if not args.quick:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(page.page(report))
    bad = sum(report[job][count] for job in ("calm", "stormy") for count in ("duplicates", "lost", "wrong"))
    return 1 if bad or report["stormy"]["differs"] else 0


if __name__ == "__main__":
    sys.exit(main())
