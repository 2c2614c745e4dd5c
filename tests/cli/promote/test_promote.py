"""``reelkind promote`` against a real server that a client keeps asking."""

from __future__ import annotations

import io
import logging
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from reelkind.cli.main import main
from reelkind.core import bundle as bundles
from reelkind.core.bundle import Bundle
from reelkind.core.files import checksums
from reelkind.deployment.embedded import temporary_repository
from reelkind.deployment.versions import VersionedRepository
from reelkind.serving.control import Control
from reelkind.serving.process import processes
from reelkind.serving.server import TritonServer
from reelkind.serving.state import announced, find_running
from tests.serving.new_version import write_new_version

pytestmark = pytest.mark.triton

FREE = {"grpc_port": 0, "http_port": 0, "metrics_port": 0}
HELD_UP = """
import logging, sys, time
from reelkind.cli.main import main

class Hold(logging.Handler):
    def emit(self, record):
        if record.getMessage() == "checking it":  # both versions are loaded
            print("held up", flush=True)
            time.sleep(3600)

log = logging.getLogger("reelkind.deployment.promote")
log.addHandler(Hold())
log.setLevel(logging.INFO)
sys.exit(main(sys.argv[1:]))
"""
FRAMES = np.random.default_rng(0).integers(0, 256, (1, 2, 48, 64, 3), np.uint8)


@dataclass
class Answers:
    """What a client that asks all the while was told, and what went wrong."""

    seen: list[float] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)

    def runs(self) -> list[float]:
        """Answers in order, repetitions left out."""
        return [value for place, value in enumerate(self.seen) if place == 0 or value != self.seen[place - 1]]

    def wait_for_one_asked_from_now_on(self) -> None:
        """Return when a request has been answered or has failed that was begun after this call."""
        enough, deadline = len(self.seen) + len(self.errors) + 2, time.monotonic() + 60.0  # one may be on its way
        while len(self.seen) + len(self.errors) < enough:
            assert time.monotonic() < deadline, "nobody asks"
            time.sleep(0.01)


class AskedInEveryStage(logging.Handler):
    """Holds a promotion up at each stage that it logs, until every client that asks was answered in it."""

    def __init__(self, answers: dict[str, Answers]) -> None:
        super().__init__(logging.INFO)
        self._answers = answers

    def emit(self, record: logging.LogRecord) -> None:
        """As `logging.Handler.emit`."""
        for each in self._answers.values():
            each.wait_for_one_asked_from_now_on()


@pytest.fixture(scope="module")
def hot(served_bundle, tmp_path_factory) -> Bundle:
    return write_new_version(served_bundle, tmp_path_factory.mktemp("bundles") / "hot", temperature=4.0)


@pytest.fixture(scope="module")
def server(triton_runtime, served_bundle, tmp_path_factory) -> Iterator[TritonServer]:
    names = ["classify", "classify_tta_fast", f"features_{served_bundle.name}", "classify_features"]
    cache_folder = tmp_path_factory.mktemp("cache")
    with (
        temporary_repository([served_bundle.folder], triton_runtime, ensembles=names) as repository,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("XDG_CACHE_HOME", str(cache_folder))
        server = TritonServer(repository, runtime=triton_runtime, owned=[repository], **FREE)
        with server, announced(server, {served_bundle.name: served_bundle.folder}):
            yield server
    assert list(cache_folder.rglob("*.json")) == []


@pytest.fixture
def clip(tmp_path) -> Path:
    from tests.videos import write_video

    return write_video(tmp_path / "clip.mp4")


def promote(server: TritonServer, *arguments: object) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of the command, run in this process."""
    out, err = io.StringIO(), io.StringIO()
    handler = signal.getsignal(signal.SIGTERM)
    with redirect_stdout(out), redirect_stderr(err):
        status = main(["promote", "--url", server.url, *map(str, arguments)])
    signal.signal(signal.SIGTERM, handler)
    return status, out.getvalue(), err.getvalue()


def ask(client: triton.InferenceServerClient, ensemble: str = "classify") -> float:
    tensor = triton.InferInput("frames", list(FRAMES.shape), "UINT8")
    tensor.set_data_from_numpy(FRAMES)
    return float(client.infer(ensemble, [tensor], client_timeout=60).as_numpy("probabilities")[0, 0])


def answer(server: TritonServer) -> float:
    with triton.InferenceServerClient(server.url) as client:
        return ask(client)


def answer_when_back(server: TritonServer) -> float:
    deadline = time.monotonic() + 60.0
    while True:
        time.sleep(0.5)
        try:
            return answer(server)
        except InferenceServerException:
            assert time.monotonic() < deadline, "the server did not come back"


@contextmanager
def asked_all_the_while(server: TritonServer) -> Iterator[dict[str, Answers]]:
    done, answers = threading.Event(), {name: Answers() for name in ("classify", "classify_tta_fast")}

    def keep_asking(name: str) -> None:
        with triton.InferenceServerClient(server.url) as client:
            while not done.wait(0.02):
                try:
                    answers[name].seen.append(ask(client, name))
                except Exception as error:
                    answers[name].errors.append(error)

    threads = [threading.Thread(target=keep_asking, args=[name]) for name in answers]
    for thread in threads:
        thread.start()
    stages, log = AskedInEveryStage(answers), logging.getLogger("reelkind.deployment.promote")
    level = log.level
    try:
        for each in answers.values():
            each.wait_for_one_asked_from_now_on()
        log.addHandler(stages)
        log.setLevel(logging.INFO)
        yield answers
        for each in answers.values():
            each.wait_for_one_asked_from_now_on()
    finally:
        log.setLevel(level)
        log.removeHandler(stages)
        done.set()
        for thread in threads:
            thread.join()


def test_no_request_is_lost_or_answered_by_a_mixture(server, hot, clip, caplog):
    with asked_all_the_while(server) as answers:
        status, out, err = promote(server, hot.folder, "--clips", clip)
        assert (status, err) == (0, "")
        assert "checked: as the bundle's graphs answer in this process, within 1e-04" in out
        assert f"promoted: backbone_{hot.name} 2, head_{hot.name} 2, average_{hot.name} 2" in out
        with triton.InferenceServerClient(server.url) as client:
            parameters = client.get_model_config("classify").config.parameters
            assert parameters["weights"].string_value == bundles.weights_hash(hot)
        status, out, err = promote(server, "--rollback", "--clips", clip)
        assert (status, err) == (0, "")
        assert f"rolled back: average_{hot.name} 1, backbone_{hot.name} 1, head_{hot.name} 1" in out
    for each in answers.values():
        assert each.errors == []
        first, second, third = each.runs()
        assert first == third != second
    warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == []  # the supervisor takes an unloaded version for no crash
    deadline = time.monotonic() + 60.0
    while {stub.version for stub in server.stubs()} != {"1"}:
        assert time.monotonic() < deadline, "the process of an unloaded version goes on"
        time.sleep(0.1)


def test_version_whose_graph_fails_is_undone(server, hot, clip, tmp_path):
    broken = bundles.save(replace(copy_of(hot, tmp_path), trained=False), tmp_path / "copy")
    head = broken.path("onnx", "head.onnx")
    content = head.read_bytes()
    head.write_bytes(content[: len(content) // 2] + bundles.weights_hash(broken).encode())
    checksums.record(head)
    before = answer(server)
    with asked_all_the_while(server) as answers:
        status, out, err = promote(server, broken.folder, "--clips", clip)
    assert (status, out) == (1, "")
    assert f"bundle '{hot.name}' has random weights: its answers mean nothing" in err
    assert f"not promoted, the server answers as before: head_{hot.name}" in err
    assert [each.errors for each in answers.values()] == [[], []]
    assert answers["classify"].runs() == [before]
    assert VersionedRepository(server.repository).versions(f"head_{hot.name}") in ([1], [1, 2])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        pytest.param(
            {"name": "other"}, "no member 'other' is served from .* a new member needs a new start", id="name"
        ),
        pytest.param({"size": 96}, "only a version of the same sizes can take its place", id="sizes"),
    ],
)
def test_bundle_that_cannot_take_the_place_is_refused(server, hot, clip, tmp_path, change, sentence):
    other = copy_of(hot, tmp_path)
    backbone = replace(other.backbone, frame_size_px=change.get("size", other.backbone.frame_size_px))
    bundles.save(replace(other, name=change.get("name", other.name), backbone=backbone), other.folder)
    status, out, err = promote(server, other.folder, "--clips", clip)
    assert (status, out) == (1, "")
    assert re.search(sentence, err)


def test_full_disk_is_named_and_leaves_nothing(server, hot, clip):
    versions = VersionedRepository(server.repository).versions(f"backbone_{hot.name}")
    before, limits = answer(server), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))  # in place of a full disk: no file above 1 MiB
    try:
        status, out, err = promote(server, hot.folder, "--clips", clip)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (status, out) == (1, "")
    assert "cannot be written: File too large; promotion needs a repository that may be written, with room for" in err
    assert answer(server) == before
    assert VersionedRepository(server.repository).versions(f"backbone_{hot.name}") == versions


def test_repository_of_another_server_is_refused(server, hot, clip, served_bundle, triton_runtime, tmp_path):
    with temporary_repository([hot.folder], triton_runtime, ensembles=["classify"]) as other:
        status, out, err = promote(server, hot.folder, "--clips", clip, "--repository", other)
    assert (status, out) == (1, "")
    assert re.search(r"the server's classify is not the one in .*: give the repository it serves", err)


def test_killed_in_the_middle_leaves_what_the_next_one_clears_away(server, hot, clip):
    before = answer(server)
    command = [sys.executable, "-c", HELD_UP, "promote", "--url", server.url, str(hot.folder), "--clips", str(clip)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as promoting:
        assert promoting.stdout.readline() == "held up\n"
        os.kill(promoting.pid, signal.SIGKILL)
    assert answer(server) == before
    kill_tritonserver(server)  # the supervisor starts it again, which reads the repository anew
    assert answer_when_back(server) == before
    assert promote(server, hot.folder, "--clips", clip)[::2] == (0, "")
    promoted = answer(server)
    assert promoted != before
    for stub in server.stubs():
        if stub.model.startswith("head"):
            os.kill(stub.process.pid, signal.SIGKILL)
    assert answer_when_back(server) == promoted
    assert promote(server, "--rollback", "--clips", clip)[::2] == (0, "")
    assert answer(server) == before


def test_cut_short_right_after_the_switch_is_finished_by_the_next_one(server, clip):
    store, control, before = VersionedRepository(server.repository), Control(server.url, server.key), answer(server)
    with store.lock():  # what roll_back does, up to where the server would be told
        other = store.previous()
        for step in (step for config in other.values() for step in config.ensemble_scheduling.step):
            if store.load_only(step.model_name, store.versions(step.model_name)):
                control.load(step.model_name)
        store.switch(store.new_number(), other)
    control.close()
    assert answer(server) == before
    with asked_all_the_while(server) as answers:
        assert promote(server, "--rollback", "--clips", clip)[::2] == (0, "")
    first, second, third = answers["classify"].runs()
    assert first == third == before != second
    assert answers["classify"].errors == answers["classify_tta_fast"].errors == []


def test_server_that_dies_before_it_is_told_is_not_said_to_answer(server, hot, clip):
    class Death(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith("switching"):
                kill_tritonserver(server)

    before, log, death = answer(server), logging.getLogger("reelkind.deployment.promote"), Death()
    log.addHandler(death)
    log.setLevel(logging.INFO)
    try:
        status, out, err = promote(server, hot.folder, "--clips", clip)
    finally:
        log.removeHandler(death)
        log.setLevel(logging.NOTSET)
    assert (status, out) == (1, "")
    assert "not promoted, the repository is as before, but no server answers: " in err
    assert answer_when_back(server) == before
    assert promote(server, hot.folder, "--clips", clip)[::2] == (0, "")  # and clears away what was left
    assert promote(server, "--rollback", "--clips", clip)[::2] == (0, "")
    assert answer(server) == before


def test_two_at_a_time_and_servers_nobody_knows_are_refused(server, hot, tmp_path, monkeypatch):
    with VersionedRepository(server.repository).lock():
        status, out, err = promote(server, hot.folder)
    assert (status, out) == (1, "")
    assert err.startswith("reelkind: another promotion is at work on ")
    assert promote(server) == (2, "", "reelkind: give either a BUNDLE or --rollback\n")
    unknown = "no server that you started with `reelkind serve` on this machine answers at "
    assert unknown + "127.0.0.1:1:" in promote(server, hot.folder, "--url", "127.0.0.1:1")[2]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert unknown + server.url in promote(server, hot.folder)[2]


def test_only_the_owner_reads_the_key(server):
    folder = Path(os.environ["XDG_CACHE_HOME"]) / "reelkind" / "servers"
    files = list(folder.iterdir())
    assert {file.name.split("-")[0] for file in files} == {"server", "key"}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
    running = find_running(server.url)
    assert (running.repository, running.key) == (str(server.repository), server.key)


def kill_tritonserver(server: TritonServer) -> None:
    guard = server._tree._guard.pid
    (tritonserver,) = [process.pid for process in processes.session(guard) if process.parent == guard]
    os.kill(tritonserver, signal.SIGKILL)


def copy_of(bundle: Bundle, folder: Path) -> Bundle:
    shutil.copytree(bundle.folder, folder / "copy")
    return bundles.load(folder / "copy")
