"""Decisions of the supervisor, with a server that only pretends; the real one: test_crashes.py."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace

import pytest
from tritonclient.grpc import model_config_pb2

from reelkind.serving import stalling
from reelkind.serving import supervisor as module
from reelkind.serving.control import BusyError, CanaryError, ModelMissingError, StubUnhealthyError
from reelkind.serving.errors import ServingError
from reelkind.serving.process import processes
from reelkind.serving.process.processes import Process, Stub
from reelkind.serving.supervisor import Supervisor

SOMEBODY = processes.read(os.getpid())
NOBODY = Process(pid=2**22 + 1, parent=1, session=1, state="S", start_ticks=0)  # above the kernel's largest pid


def config(name: str, *models: str) -> model_config_pb2.ModelConfig:
    made = model_config_pb2.ModelConfig(name=name, platform="ensemble")
    for model in models:
        made.ensemble_scheduling.step.add(model_name=model)
    return made


class PretendServer:
    """Records what is done to it; ``canaries`` are raised one a call, None is an answer."""

    def __init__(self) -> None:
        self.configs = {"classify": config("classify", "head_lite")}
        self.control = self
        self.done: list[str] = []
        self.canaries: list[CanaryError | None] = []
        self.running = self.live = True
        self.halted = False
        self.restart_error: ServingError | None = None
        self.num_answered = self.num_failed = 0
        self.num_executed: dict[str, int] | None = {}
        self.living: list[Stub] = []
        self.ready = {"1"}
        self.counted = False  # whether its processes are worth counting in a test
        self.while_counting: Callable[[], None] = lambda: None

    def is_running(self) -> bool:
        return self.running

    def is_halted(self) -> bool:
        return self.halted

    def is_live(self) -> bool:
        return self.live

    def why_it_ended(self) -> str:
        return "tritonserver was killed by signal 9"

    def close_regions(self) -> None:
        pass

    def stubs(self) -> list[Stub]:
        living = list(self.living)
        self.while_counting()
        return living

    def restart(self) -> None:
        self.done.append("restart")
        if self.restart_error:
            raise self.restart_error
        self.running = True

    def num_requests(self, name: str) -> tuple[int, int]:
        return self.num_answered, self.num_failed

    def num_executions(self, model: str) -> int:
        if self.num_executed is None:
            raise CanaryError("deadline")
        return self.num_executed.get(model, 0)

    def config(self, model: str) -> model_config_pb2.ModelConfig:
        made = model_config_pb2.ModelConfig(name=model)
        made.dynamic_batching.default_queue_policy.max_queue_size = 64 * model.startswith("backbone")
        return made

    def is_ready(self, name: str) -> bool:
        return True

    def versions(self, model: str) -> set[str]:
        return self.ready

    def loaded(self) -> set[tuple[str, str]]:
        return {("head_lite", version) for version in self.ready} if self.counted else set()

    def num_processes(self, model: str) -> int:
        return 1

    def reload(self, model: str) -> None:
        self.done.append(f"reload {model}")

    def load(self, model: str) -> None:
        self.done.append(f"load {model}")

    def canary(self, config, timeout_s: float, num_frames: int | None = None) -> None:
        self.done.append("canary" if config.name == "classify" else f"canary {config.name}")
        error = self.canaries.pop(0) if self.canaries else None
        if error is not None:
            raise error


@pytest.fixture
def server() -> PretendServer:
    return PretendServer()


@pytest.fixture
def watch(server):
    """A supervisor whose canary is always due."""
    supervisor = Supervisor(server)
    supervisor._look_around()

    def check(times: int = 1) -> list[str]:
        server.done.clear()
        for _ in range(times):
            supervisor._next_canary = 0.0
            supervisor._check()
        return server.done

    check.supervisor, check.server = supervisor, server
    return check


def had(watch, *stubs: Stub) -> None:
    """The server had these processes when all was well."""
    living, watch.server.living = watch.server.living, list(stubs)
    watch.supervisor._look_around()
    watch.server.living = living


def test_healthy_server_is_only_asked(watch):
    assert watch(2) == ["canary", "canary"]


def test_traffic_spares_the_canary(watch, server):
    watch()
    server.num_answered = 5
    assert watch() == []
    server.num_answered, server.num_failed = 9, 1
    assert watch() == ["canary"]


def test_dead_process_is_loaded_again(watch, server, caplog):
    had(watch, Stub(NOBODY, "head_lite"))
    with caplog.at_level(logging.WARNING):
        assert watch() == ["reload head_lite", "canary"]
    assert [record.getMessage().split(" after")[0] for record in caplog.records] == [
        "head_lite: its process died; loading again",
        "head_lite: answers again",
    ]


def test_process_of_an_unloaded_version_is_not_missed(watch, server):
    had(watch, Stub(NOBODY, "head_lite", "1"))
    server.living, server.ready = [Stub(SOMEBODY, "head_lite", "2")], {"2"}
    assert watch() == ["canary"]


@pytest.mark.parametrize(("before", "after"), [(set(), {"1"}), ({"1"}, set())], ids=["loaded", "unloaded"])
def test_version_that_comes_or_goes_while_its_processes_are_counted_is_not_missed(watch, server, before, after):
    had(watch, Stub(NOBODY, "head_lite", "1"))
    server.ready = before
    server.while_counting = lambda: setattr(server, "ready", after)
    assert watch() == ["canary"]


def test_replaced_process_is_not_missed_but_its_successor_would_be(watch, server):
    had(watch, Stub(NOBODY, "head_lite"))
    server.living = [Stub(SOMEBODY, "head_lite")]
    assert watch() == ["canary"]
    server.living = []
    watch.supervisor._stub_watch._stubs = [Stub(NOBODY, "head_lite")]
    assert watch() == ["reload head_lite", "canary"]


def test_process_that_died_unknown_or_while_another_ended_is_missed_in_the_end(watch, server):
    server.counted = True
    assert watch() == ["reload head_lite", "canary"]
    server.living = [Stub(SOMEBODY, "head_lite")]
    assert watch() == ["canary"]


def test_process_that_is_stopped_for_long_counts_as_dead_although_another_answers(watch, server, monkeypatch):
    server.counted = True
    stopped = Stub(replace(SOMEBODY, state="T"), "head_lite")
    server.living = [stopped]
    assert watch() == []  # a debugger may look at it for a moment
    server.living = [Stub(SOMEBODY, "head_lite")]
    assert watch() == ["canary"]
    server.living = [stopped]
    server.reload = lambda model: (server.done.append(f"reload {model}"), server.living.clear())
    monkeypatch.setattr(module.os, "kill", lambda pid, number: server.done.append("kill"))
    assert watch(2) == ["kill", "reload head_lite", "canary"]


def test_only_as_many_ensembles_are_asked_as_reach_every_model(watch, server):
    server.configs = {
        "features": config("features", "preprocess", "backbone"),
        "classify": config("classify", "preprocess", "backbone", "head"),
        "tta": config("tta", "preprocess_tta", "backbone", "head"),
    }
    assert watch(4) == ["canary", "canary tta"] * 2


def test_two_failed_reloads_lead_to_a_restart(watch, server):
    had(watch, Stub(NOBODY, "head_lite"))
    server.canaries = [CanaryError("no"), CanaryError("no")]
    assert watch() == ["reload head_lite", "canary", "reload head_lite", "canary", "restart"]


def test_model_that_hangs_besides_is_brought_back_with_it(watch, server):
    had(watch, Stub(NOBODY, "head_lite"))
    server.canaries = [StubUnhealthyError("backbone_lite", "backbone_lite_0_1")]
    assert sorted(watch()) == ["canary", "canary", "reload backbone_lite", "reload head_lite", "reload head_lite"]


def test_ended_server_is_restarted(watch, server):
    server.running = False
    assert watch() == ["restart"]


def test_stopped_server_is_restarted_at_the_second_look(watch, server):
    server.halted = True
    assert watch() == []  # nothing that could answer is asked
    server.halted = False
    assert watch() == ["canary"]
    server.halted = True
    assert watch(2) == ["restart"]


def test_silent_server_is_restarted_at_the_second_look_however_long_its_queue(watch, overloaded):
    overloaded.live = False
    assert watch(2) == ["restart"]


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        pytest.param(
            StubUnhealthyError("head_lite", "head_lite_0_0"), ["reload head_lite", "canary"], id="hanging process"
        ),
        pytest.param(ModelMissingError("unknown model"), ["canary"], id="ensemble not loaded"),
        pytest.param(CanaryError("nonsense"), ["restart"], id="anything else"),
    ],
)
def test_second_bad_canary_in_a_row_is_acted_upon(watch, server, error, cure):
    server.canaries = [error, None, error]
    assert watch(3) == ["canary"] * 3
    server.canaries = [error]
    assert watch() == ["canary", *cure]


def test_hanging_process_is_found_behind_others_that_answer(watch, server):
    hanging, starved = (StubUnhealthyError("head_lite", f"head_lite_0_{number}") for number in range(2))
    server.canaries = [hanging, None, starved, None, hanging, None, starved, None]
    assert watch(8) == ["canary"] * 8
    server.canaries = [hanging]
    assert watch() == ["canary", "reload head_lite", "canary"]
    server.canaries = [hanging]
    assert watch() == ["canary"]  # a new process starts with a good name


@pytest.fixture
def overloaded(server) -> PretendServer:
    """Somebody keeps its backbone busy, through another ensemble than the one that is asked."""
    server.configs = {"classify": config("classify", "preprocess", "backbone_lite", "temporal_views", "head_lite")}
    server.canaries = [BusyError("Exceeds maximum queue size")] * 20
    return server


def test_full_queue_of_a_model_that_computes_is_never_a_strike(watch, overloaded, monkeypatch):
    monkeypatch.setattr(stalling, "STALLED_S", 0.0)
    for number in range(10):
        overloaded.num_executed["backbone_lite"] = number + 1
        assert watch() == ["canary"]


def test_full_queue_of_a_model_that_takes_its_time_is_no_strike(watch, overloaded):
    assert watch(10) == ["canary"] * 10


def test_full_queue_of_a_model_that_computes_no_more_is_a_strike(watch, overloaded, monkeypatch):
    assert watch() == ["canary"]
    monkeypatch.setattr(stalling, "STALLED_S", 0.0)
    overloaded.num_executed["preprocess"] = 5  # fills the queue that nobody empties
    assert watch(2) == ["canary", "canary", "restart"]


def test_server_that_says_nothing_at_all_is_not_just_busy(watch, overloaded):
    overloaded.num_executed = None
    assert watch(2) == ["canary", "canary", "restart"]


def test_full_queue_does_not_spoil_a_recovery(watch, overloaded):
    had(watch, Stub(NOBODY, "head_lite"))
    assert watch() == ["reload head_lite", "canary"]


def test_gives_up_after_too_many_restarts(watch, server):
    server.running = False
    server.restart_error = ServingError("port gone")
    with pytest.raises(ServingError, match="gave up after 3 restarts in a row; last reason: port gone"):
        watch()
    assert server.done == ["restart"] * module.MAX_RESTARTS


def test_crashes_in_a_row_are_counted_until_one_restart_has_lasted(watch, server, monkeypatch):
    def crash() -> None:
        server.running = False
        watch()

    for _ in range(module.MAX_RESTARTS):
        crash()
    with pytest.raises(ServingError, match="gave up after 3 restarts in a row"):
        crash()
    monkeypatch.setattr(module, "STABLE_S", 0.0)
    for _ in range(2 * module.MAX_RESTARTS):
        crash()


def test_reason_for_giving_up_reaches_whoever_waits(server):
    server.running = False
    server.restart_error = ServingError("port gone")
    supervisor = Supervisor(server)
    supervisor.start()
    with pytest.raises(ServingError, match="port gone"):
        supervisor.wait(60.0)
    supervisor.stop()
    supervisor.join()


def test_stopping_ends_the_watch_in_silence(server):
    supervisor = Supervisor(server)
    supervisor.start()
    supervisor.stop()
    supervisor.join()
    supervisor.wait(0.0)
