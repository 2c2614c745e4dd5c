"""Whole jobs: the command on Ray, with a real tritonserver, a real file server, a real S3 server, and kill -9."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from reelkind import samples
from reelkind.bulk import parts, rows
from reelkind.serving.server import TritonServer

pytest.importorskip("ray", reason="the extra bulk is not installed")
pytestmark = pytest.mark.triton

SAMPLES = sorted(Path(samples.__file__).parent.glob("*.mp4"))
LABELS = [path.stem.partition("_")[0] for path in SAMPLES]

SMALL_PARTS = """
import sys
from reelkind.bulk import parts
from reelkind.cli.main import main
parts.ROWS_PER_PART = 4
sys.exit(main(sys.argv[1:]))
"""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "reelkind", "bulk", *map(str, arguments), "--jobs", "2", "--no-progress"]


def run(*arguments: object, stdin: str = "", status: int = 0, **variables: str) -> str:
    """What a job says on stderr."""
    done = subprocess.run(
        command(*arguments),
        input=stdin,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
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


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A file server of the samples."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(SAMPLES[0].parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_folder_with_bad_files(tmp_path: Path, triton_server: TritonServer) -> None:
    paths, out = fill(tmp_path / "in"), tmp_path / "out"
    run(tmp_path / "in", "--out", out, "--url", triton_server.url, "--embedding")
    found = read(out)
    assert sorted(found) == paths
    good = [found[path] for path in paths if Path(path).name.startswith("000_")]
    assert [row["label"] for row in good] == LABELS
    for row in good:
        assert row["error"] is None
        assert row["segments"] is None
        assert row["embedding"]
        assert sum(row["scores"].values()) == pytest.approx(1, abs=1e-4)
        assert len(row["weights"][0]) == len(row["sha256"]) == 64
        assert row["decode_ms"] > 0
        assert row["infer_ms"] > 0
    for name in ("bad.mp4", "cut.mp4"):
        row = found[str(tmp_path / "in" / name)]
        assert row["label"] is None
        assert row["error_class"] == "VideoError"
        assert "\n" not in row["error"]
        assert row["sha256"]


def test_http_and_a_second_run_that_has_nothing_to_do(
    tmp_path: Path, triton_server: TritonServer, address: str
) -> None:
    uris = [*(f"{address}/{path.name}" for path in SAMPLES[:2]), f"{address}/gone.mp4", "ftpx://nowhere/a.mp4"]
    listed = "\n".join([*uris, uris[0]])
    run("-", "--out", tmp_path, "--url", triton_server.url, "--timeline", stdin=listed)
    found = read(tmp_path)
    assert sorted(found) == sorted(uris)
    assert [found[uri]["label"] for uri in uris] == [*LABELS[:2], None, None]
    assert all(found[uri]["segments"][0]["start_ms"] == 0 for uri in uris[:2])
    assert [found[uri]["error_class"] for uri in uris[2:]] == ["FetchError", "FetchError"]
    assert found[uris[2]]["error"] == "no such file"
    said = run("-", "--out", tmp_path, "--url", "127.0.0.1:1", stdin=listed)  # asks nobody
    assert "4 of 4 have their row" in said


def test_s3(tmp_path: Path, triton_server: TritonServer, monkeypatch: pytest.MonkeyPatch) -> None:
    moto_server = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    from pyarrow.fs import S3FileSystem

    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        variables = {**keys, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        store = S3FileSystem(allow_bucket_creation=True)
        store.create_dir("films")
        for path in SAMPLES[:2]:
            with store.open_output_stream(f"films/{path.name}") as file:
                file.write(path.read_bytes())
        uris = [*(f"s3://films/{path.name}" for path in SAMPLES[:2]), "s3://films/gone.mp4"]
        run("-", "--out", tmp_path, "--url", triton_server.url, stdin="\n".join(uris), **variables)
        found = read(tmp_path)
        assert [found[uri]["label"] for uri in uris] == [*LABELS[:2], None]
        assert found[uris[2]]["error"] == "no such file"
    finally:
        server.stop()


def test_a_killed_driver_is_resumed_without_loss_or_duplicate(tmp_path: Path, triton_server: TritonServer) -> None:
    paths, out = fill(tmp_path / "in", copies=8), tmp_path / "out"
    arguments = (tmp_path / "in", "--out", out, "--url", triton_server.url)
    killed = subprocess.Popen([sys.executable, "-c", SMALL_PARTS, *command(*arguments)[3:]], stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while not list(out.glob("part-*.parquet")):
            assert killed.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    kept = read(out)
    assert 0 < len(kept) < len(paths)
    said = run(*arguments)
    assert f"{len(kept)} of {len(paths)} have their row" in said
    found = read(out)
    assert sorted(found) == paths
    assert {uri: found[uri] for uri in kept} == kept
    assert sum(row["label"] is None for row in found.values()) == 2


def test_without_a_server_there_is_no_row_and_the_next_run_asks_again(
    tmp_path: Path, triton_server: TritonServer
) -> None:
    good = str(SAMPLES[0])
    assert "127.0.0.1:1" in run("-", "--out", tmp_path, "--url", "127.0.0.1:1", stdin=good, status=1)
    assert read(tmp_path) == {}
    run("-", "--out", tmp_path, "--url", triton_server.url, stdin=good)
    assert read(tmp_path)[good]["label"] == LABELS[0]
