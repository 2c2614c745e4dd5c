"""Whole jobs: the command on Ray, with a real tritonserver, a real file server, a real S3 server, and kill -9."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from file_servers import s3_bucket

from reelkind import samples
from reelkind.benchmarks.bulk.answers import differing
from reelkind.benchmarks.bulk.cluster import Cluster
from reelkind.benchmarks.bulk.watch import find
from reelkind.benchmarks.failover import kill
from reelkind.bulk import parts, rows
from reelkind.client import Client
from reelkind.serving.server import TritonServer

pytest.importorskip("ray", reason="the extra bulk is not installed")
pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("brief_ray")]

SAMPLES = sorted(Path(samples.__file__).parent.glob("*.mp4"))
COPIES = 6
JOB_S = 240.0

SMALL_PARTS = """
import sys
from reelkind.bulk import parts
from reelkind.cli.main import main
parts.ROWS_PER_PART = 4
sys.exit(main(sys.argv[1:]))
"""


def command(*arguments: object) -> list[str]:
    """A job that writes a part every four rows."""
    return [sys.executable, "-c", SMALL_PARTS, "bulk", *map(str, arguments), "--jobs", "2", "--no-progress"]


def run(*arguments: object, stdin: str = "", status: int = 0) -> str:
    """What a job says on stderr."""
    done = subprocess.run(command(*arguments), input=stdin, capture_output=True, text=True, timeout=JOB_S, check=False)
    assert done.returncode == status, done.stderr
    return done.stderr


def read(folder: Path) -> dict[str, rows.Row]:
    """Rows by URI, none of them there twice."""
    found = parts.read(folder, rows.schema().names).to_pylist()
    by_uri = {row["uri"]: row for row in found}
    assert len(by_uri) == len(found)
    return by_uri


def fill(folder: Path, copies: int = 1) -> list[str]:
    folder.mkdir()
    for at in range(copies):
        for path in SAMPLES:
            shutil.copy(path, folder / f"{at:03d}_{path.name}")
    (folder / "bad.mp4").write_text("no video")
    (folder / "cut.mp4").write_bytes(SAMPLES[0].read_bytes()[:3000])
    return sorted(str(path) for path in folder.iterdir())


def wait_for(condition: Callable[[], object], job: subprocess.Popen[str]) -> None:
    until = time.monotonic() + JOB_S
    while not condition():
        assert job.poll() is None, "the job ended too soon"
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture(scope="module")
def labels(triton_server: TritonServer) -> dict[str, str | None]:
    """Sample's file name -> what the plain client says."""
    with Client(triton_server.url) as client:
        return {path.name: client.classify(path).label for path in SAMPLES}


@pytest.fixture
def address() -> Iterator[str]:
    """A file server of the samples."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(SAMPLES[0].parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 server with two samples in a bucket; says so in AWS's variables."""
    with s3_bucket({path.name: path.read_bytes() for path in SAMPLES[:2]}, monkeypatch) as bucket:
        yield bucket


def test_s3_and_http_by_a_ray_and_a_server_of_its_own_and_a_second_run_with_nothing_to_do(
    tmp_path: Path, address: str, bucket: str, labels: dict[str, str | None]
) -> None:
    gone = [f"{address}/gone.mp4", f"{bucket}/gone.mp4"]
    uris = [f"{place}/{path.name}" for place in (address, bucket) for path in SAMPLES[:2]]
    listed = "\n".join([*uris, *gone, "ftp://host/a.mp4", uris[0]])
    run("-", "--out", tmp_path, "--local-server", "--member", "lite", "--timeline", stdin=listed)
    found = read(tmp_path)
    assert sorted(found) == sorted({*listed.split("\n")})
    for uri in uris:
        assert found[uri]["label"] == labels[Path(uri).name]
        assert found[uri]["segments"][0]["start_ms"] == 0
    assert [found[uri]["error"] for uri in gone] == ["no such file"] * 2
    assert found["ftp://host/a.mp4"]["error_class"] == "FetchError"
    assert found[uris[0]]["sha256"] == found[uris[2]]["sha256"]
    said = run("-", "--out", tmp_path, "--url", "127.0.0.1:1", stdin=listed)  # asks nobody
    assert "7 of 7 have their row" in said


def test_killed_worker_and_killed_tritonserver_cost_no_row(
    tmp_path: Path, cluster: Cluster, triton_server: TritonServer, labels: dict[str, str | None]
) -> None:
    paths = fill(tmp_path / "in", COPIES)
    common = (tmp_path / "in", "--url", triton_server.url, "--ray", cluster.address, "--embedding")
    run(*common, "--out", tmp_path / "calm")
    calm = read(tmp_path / "calm")
    assert sorted(calm) == paths
    for path, row in calm.items():
        kind = Path(path).name.partition("_")[2]
        assert row["label"] == labels.get(kind)
        assert len(row["sha256"]) == 64
        if kind:
            assert row["error"] is None
            assert sum(row["scores"].values()) == pytest.approx(1, abs=1e-4)
            assert len(row["weights"][0]) == 64
            assert min(len(row["embedding"]), row["decode_ms"], row["infer_ms"]) > 0
        else:
            assert row["error_class"] == "VideoError"
            assert "\n" not in row["error"]

    out = tmp_path / "stormy"
    with subprocess.Popen(command(*common, "--out", out), stderr=subprocess.PIPE, text=True) as job:
        wait_for(lambda: list(out.glob("part-*.parquet")), job)
        os.kill(find("actor", cluster.processes)[0], signal.SIGKILL)
        kill(triton_server)
        said = job.communicate(timeout=JOB_S)[1]
    assert job.returncode == 0, said
    assert sorted(read(out)) == paths
    here = {path: Path(path) for path in paths}
    assert differing((out, here), (tmp_path / "calm", here)) == 0


def test_killed_driver_is_resumed_without_loss_or_duplicate(
    tmp_path: Path, triton_server: TritonServer, labels: dict[str, str | None]
) -> None:
    paths, out = fill(tmp_path / "in", COPIES), tmp_path / "out"
    arguments = (tmp_path / "in", "--out", out, "--url", triton_server.url)
    with subprocess.Popen(command(*arguments), stderr=subprocess.DEVNULL, text=True) as killed:
        wait_for(lambda: list(out.glob("part-*.parquet")), killed)
        killed.kill()
    kept = read(out)
    assert 0 < len(kept) < len(paths)
    said = run(*arguments)
    assert f"{len(kept)} of {len(paths)} have their row" in said
    found = read(out)
    assert sorted(found) == paths
    assert {uri: found[uri] for uri in kept} == kept
    assert [found[path]["label"] for path in paths] == [labels.get(Path(path).name.partition("_")[2]) for path in paths]


def test_without_a_server_there_is_no_row_and_the_next_run_asks_again(
    tmp_path: Path, cluster: Cluster, triton_server: TritonServer, labels: dict[str, str | None]
) -> None:
    good = str(SAMPLES[0])
    common = ("-", "--out", tmp_path, "--ray", cluster.address)
    assert "127.0.0.1:1" in run(*common, "--url", "127.0.0.1:1", stdin=good, status=1)
    assert read(tmp_path) == {}
    run(*common, "--url", triton_server.url, stdin=good)
    assert read(tmp_path)[good]["label"] == labels[SAMPLES[0].name]
