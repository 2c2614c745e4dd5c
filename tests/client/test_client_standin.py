"""The blocking client against a stand-in server: what a real one cannot be made to do."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import grpc
import numpy as np
import pytest
from standin import StandinServer, expected_probabilities
from videos import write_video

from reelkind.client import (
    Client,
    ClientError,
    ContractMismatch,
    Failure,
    ModelUnavailable,
    Prediction,
    RequestCancelled,
    RequestTimeout,
    RequestTooLarge,
    ServerFailed,
    ServerUnavailable,
    VideoError,
)
from reelkind.core.taxonomy import CLASSES
from reelkind.core.video import read_clip

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 5, 8, 8, 3), np.uint8)
BUSY = (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
CRASHED = (grpc.StatusCode.INTERNAL, "in ensemble 'classify', Stub process 'head_lite_0_0' is not healthy.")
RELOADED = (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'head_lite' is not found")


@pytest.fixture(scope="module")
def clip_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / "a.mp4", 50)


def test_a_file_is_decoded_as_the_server_asks_and_answered(standin: StandinServer, clip_path: Path) -> None:
    with Client(standin.url) as client:
        prediction = client.classify(clip_path)
    assert standin.requests == [[1, 4, 32, 32, 3]]
    clip = read_clip(clip_path, num_frames=4, size_px=32)
    expected = expected_probabilities(clip.frames[None])[0]
    assert list(prediction.scores) == list(CLASSES)
    np.testing.assert_allclose(list(prediction.scores.values()), expected, rtol=1e-5)
    assert prediction.label == CLASSES[int(np.argmax(list(prediction.scores.values())))]
    assert prediction.confidence == max(prediction.scores.values())
    assert prediction.times_ms is not None
    assert prediction.times_ms.tolist() == clip.times_ms.tolist()
    assert (prediction.attention.shape, prediction.embedding.shape) == ((4,), (6,))
    assert prediction.timings_ms["total"] == pytest.approx(
        prediction.timings_ms["decode"] + prediction.timings_ms["infer"]
    )
    assert prediction.model.members == ("lite",)


def test_a_batch_of_frames_gives_a_list_in_order(standin: StandinServer) -> None:
    with Client(standin.url) as client:
        batch = client.classify_frames(FRAMES)
        single = client.classify_frames(FRAMES[1], times_ms=[0, 10, 20, 30, 40])
    assert isinstance(single, Prediction)
    assert not isinstance(batch, Prediction)
    found = [list(prediction.scores.values()) for prediction in batch]
    np.testing.assert_allclose(found, expected_probabilities(FRAMES), rtol=1e-5)
    assert list(single.scores.values()) == found[1]
    assert single.times_ms is not None
    assert single.times_ms.tolist() == [0, 10, 20, 30, 40]
    assert batch[0].times_ms is None


def test_bytes_and_open_files_are_classified_like_the_file(standin: StandinServer, clip_path: Path) -> None:
    with Client(standin.url) as client, clip_path.open("rb") as file:
        expected = client.classify(clip_path).scores
        assert client.classify_bytes(clip_path.read_bytes()).scores == expected
        named = client.classify_bytes(file, name="upload.mp4")
        assert (named.path, named.scores) == ("upload.mp4", expected)
        with pytest.raises(VideoError, match="<bytes>: not a readable video"):
            client.classify_bytes(b"hello")


def test_the_top_classes_come_likeliest_first(standin: StandinServer) -> None:
    with Client(standin.url) as client:
        prediction = client.classify_frames(np.full((1, 8, 8, 3), (10, 255, 100), np.uint8))
    assert isinstance(prediction, Prediction)
    assert [name for name, _ in prediction.top(3)] == ["gaming", "natural", "animation"]


def test_headers_are_sent(standin: StandinServer) -> None:
    with Client(standin.url, headers={"authorization": "Bearer x"}) as client:
        client.classify_frames(FRAMES)
    assert standin.metadata["authorization"] == "Bearer x"


def test_too_much_is_refused_before_it_is_sent(standin: StandinServer) -> None:
    with Client(standin.url) as client, pytest.raises(RequestTooLarge):
        client.classify_frames(np.zeros((9, 1, 2, 2, 3), np.uint8))
    assert standin.requests == []


@pytest.mark.parametrize("failures", [[BUSY], [CRASHED, CRASHED, RELOADED]], ids=["queue-full", "model-restarted"])
def test_passing_failures_are_waited_out(standin: StandinServer, failures: list) -> None:
    standin.failures.extend(failures)
    with Client(standin.url) as client:
        client.classify_frames(FRAMES)
    assert len(standin.requests) == len(failures) + 1


def test_lasting_failures_are_not_retried(standin: StandinServer) -> None:
    standin.failures.append((grpc.StatusCode.INTERNAL, "CUDA error"))
    with Client(standin.url) as client, pytest.raises(ServerFailed, match="CUDA error"):
        client.classify_frames(FRAMES)
    assert len(standin.requests) == 1


def test_a_server_that_comes_back_is_found_again(standin: StandinServer) -> None:
    with Client(standin.url) as client:
        client.classify_frames(FRAMES)
        standin.stop()
        port = int(standin.url.rpartition(":")[2])
        restart = threading.Timer(0.3, standin.start, [port])
        restart.start()
        client.classify_frames(FRAMES)
        restart.join()


def test_a_server_that_stays_away_costs_its_wait_only_once(standin: StandinServer) -> None:
    with Client(standin.url, retry_s=0.3) as client:
        client.classify_frames(FRAMES)
        standin.stop()
        with pytest.raises(ServerUnavailable):
            client.classify_frames(FRAMES)
        started = time.monotonic()
        with pytest.raises(ServerUnavailable):
            client.classify_frames(FRAMES)
        assert time.monotonic() - started < 0.2


def test_an_address_where_nothing_ever_answered_fails_at_once(standin: StandinServer) -> None:
    standin.stop()
    started = time.monotonic()
    with Client(standin.url) as client:
        assert not client.is_ready()
        with pytest.raises(ServerUnavailable, match=f"no server answers at {standin.url}; start one"):
            client.classify_frames(FRAMES)
    assert time.monotonic() - started < 3


def test_silence_is_a_timeout(standin: StandinServer) -> None:
    with Client(standin.url, timeout_s=0.3) as client:
        _ = client.server_info
        standin.hold.clear()
        started = time.monotonic()
        with pytest.raises(RequestTimeout, match="raise the timeout"):
            client.classify_frames(FRAMES)
        assert time.monotonic() - started < 2


def test_the_deadline_holds_over_retries(standin: StandinServer) -> None:
    standin.failures.extend([BUSY] * 100)
    started = time.monotonic()
    with Client(standin.url, timeout_s=0.5) as client, pytest.raises(ClientError):
        client.classify_frames(FRAMES)
    assert time.monotonic() - started < 2


def test_a_missing_ensemble_is_named(standin: StandinServer) -> None:
    with Client(standin.url, ensemble="classify_tta") as client, pytest.raises(ModelUnavailable, match="classify_tta"):
        _ = client.server_info


def test_another_contract_is_refused_before_frames_are_sent(standin: StandinServer) -> None:
    standin.parameters["contract_version"] = "2"
    with Client(standin.url) as client, pytest.raises(ContractMismatch, match="speaks contract 2"):
        client.classify_frames(FRAMES)
    assert standin.requests == []


@pytest.mark.parametrize(
    ("outputs", "error"),
    [
        ({"probabilities": None}, ContractMismatch),
        ({"probabilities": (np.zeros(0, np.float32), [3, 4])}, ContractMismatch),  # NumPy 2 in the server's models
        ({"probabilities": (np.zeros((3, 5), np.float32), [3, 5])}, ContractMismatch),
        ({"attention": (np.zeros((3, 9), np.float32), [3, 9])}, ContractMismatch),
        ({"probabilities": (np.full((3, 4), np.nan, np.float32), [3, 4])}, ServerFailed),
    ],
    ids=["missing", "no-bytes", "other-classes", "other-frames", "not-a-number"],
)
def test_damaged_answers_are_noticed(standin: StandinServer, outputs: dict, error: type[Exception]) -> None:
    standin.outputs = outputs
    with Client(standin.url) as client, pytest.raises(error):
        client.classify_frames(FRAMES)


def test_readiness_is_asked_for_and_waited_for(standin: StandinServer) -> None:
    standin.ready = False
    with Client(standin.url) as client:
        assert not client.is_ready()
        with pytest.raises(ServerUnavailable, match="is not ready after 0 s"):
            client.wait_until_ready(0)
        standin.ready = True
        client.wait_until_ready(5)
        assert client.is_ready()


def test_a_closed_client_says_so(standin: StandinServer) -> None:
    client = Client(standin.url)
    client.close()
    with pytest.raises(RequestCancelled, match="is closed"):
        client.classify_frames(FRAMES)


def test_threads_share_a_client(standin: StandinServer) -> None:
    with Client(standin.url) as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.classify_frames(FRAMES[0]), range(32)))
    assert len({tuple(answer.scores.values()) for answer in answers}) == 1


@pytest.mark.parametrize("ordered", [True, False])
def test_many_files_are_answered_each_and_failures_do_not_end_the_run(
    standin: StandinServer, clip_path: Path, tmp_path: Path, ordered: bool
) -> None:
    paths = [clip_path, tmp_path / "nope.mp4", clip_path, tmp_path] * 5
    with Client(standin.url) as client:
        answers = list(client.classify_many(paths, concurrency=3, ordered=ordered))
    found = [(answer.path, isinstance(answer, Prediction)) for answer in answers]
    wanted = [(str(path), path == clip_path) for path in paths]
    assert found == wanted if ordered else sorted(found) == sorted(wanted)
    assert {str(answer.error) for answer in answers if isinstance(answer, Failure)} == {
        f"{tmp_path / 'nope.mp4'}: no such file",
        f"{tmp_path}: is a folder, not a video file",
    }


def test_an_endless_list_is_read_as_needed(standin: StandinServer, clip_path: Path) -> None:
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield clip_path

    with Client(standin.url) as client:
        answers = client.classify_many(endless(), concurrency=2)
        assert len(list(islice(answers, 10))) == 10
        answers.close()  # type: ignore[attr-defined]
    assert taken <= 10 + 2 * 2
    assert standin.most_at_once <= 2


def test_files_overlap(standin: StandinServer, clip_path: Path) -> None:
    standin.hold.clear()
    with Client(standin.url) as client:
        threading.Thread(target=lambda: (_wait_for(lambda: standin.most_at_once == 3), standin.hold.set())).start()
        assert len(list(client.classify_many([clip_path] * 3, concurrency=3))) == 3


def _wait_for(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_many_without_a_server_is_one_error(standin: StandinServer, clip_path: Path) -> None:
    standin.stop()
    with Client(standin.url) as client, pytest.raises(ServerUnavailable):
        client.classify_many([clip_path] * 100)


def test_concurrency_below_one_is_refused(standin: StandinServer) -> None:
    with Client(standin.url) as client, pytest.raises(ValueError, match="concurrency must be at least 1"):
        client.classify_many([], concurrency=0)
