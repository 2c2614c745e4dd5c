"""The blocking client against a stand-in server: what a real one cannot be made to do."""

import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import grpc
import numpy as np
import pytest
from standin import StandinServer, expected_features, expected_probabilities
from videos import write_video

from reelkind.client import (
    Client,
    ClientError,
    ContractMismatch,
    Failure,
    InvalidOption,
    ModelUnavailable,
    Prediction,
    RequestCancelled,
    RequestRejected,
    RequestTimeout,
    RequestTooLarge,
    ServerBusy,
    ServerFailed,
    ServerUnavailable,
    VideoError,
)
from reelkind.client.transport.transport import finish
from reelkind.core.taxonomy.classes import CLASSES
from reelkind.video.clip import read_clip

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


def test_fewer_frames_are_looked_at_where_fewer_are_wanted(standin: StandinServer, clip_path: Path) -> None:
    with Client(standin.url, num_frames=2) as client:
        answers = [client.classify(clip_path), client.classify_bytes(clip_path.read_bytes(), "film")]
    for answer in answers:
        assert answer.times_ms is not None
        assert answer.times_ms.tolist() == read_clip(clip_path, num_frames=2, size_px=32).times_ms.tolist()
        assert answer.attention.shape == (2,)


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


def test_a_server_that_is_away_while_the_handshake_grows_old_is_waited_for(
    standin: StandinServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reelkind.client.connection.INFO_AGE_S", 0)
    with Client(standin.url) as client:
        client.classify_frames(FRAMES)
        monkeypatch.setattr("reelkind.client.connection.PROBE_TIMEOUT_S", 0.3)
        standin.stop()
        restart = threading.Timer(0.8, standin.start, [int(standin.url.rpartition(":")[2])])
        restart.start()
        client.classify_frames(FRAMES)
        restart.join()


def record_pauses(client: Client, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the client means to sleep, from now on, before it tries again."""
    pauses: list[float] = []
    sleep = client._session.transport.sleep

    async def recorded(duration_s: float) -> None:
        pauses.append(duration_s)
        await sleep(duration_s)

    monkeypatch.setattr(client._session.transport, "sleep", recorded)
    return pauses


def test_a_refusal_says_when_to_come_back(standin: StandinServer) -> None:
    with Client(standin.url, retry_s=0) as client:
        refusal = (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
        standin.failures.append(refusal)
        with pytest.raises(ServerBusy, match=r"full queue .*; try again in about 1\.0 s$") as raised:
            client.classify_frames(FRAMES)
        assert raised.value.retry_after_s == 1.0
        standin.hold.clear()
        threading.Timer(0.5, standin.hold.set).start()
        client.classify_frames(FRAMES)
        assert 0.5 <= client._session._answer_s < 2.5  # the whole of the first answer's time, not a share of it
        client._session._answer_s = 4.0  # as if answers took so long lately
        standin.failures.append(refusal)
        with pytest.raises(ServerBusy, match=r"try again in about 4\.0 s") as raised:
            client.classify_frames(FRAMES)
        assert pickle.loads(pickle.dumps(raised.value)).retry_after_s == 4.0


def test_a_server_that_stays_away_costs_its_wait_only_once(
    standin: StandinServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(standin.url, retry_s=0.3) as client:
        client.classify_frames(FRAMES)
        standin.stop()
        with pytest.raises(ServerUnavailable):
            client.classify_frames(FRAMES)
        pauses = record_pauses(client, monkeypatch)
        with pytest.raises(ServerUnavailable):
            client.classify_frames(FRAMES)
    assert pauses == []


def test_a_call_that_fails_for_long_says_nothing_of_a_server_that_answers_others(
    standin: StandinServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(standin.url, retry_s=0.3) as client:
        client.classify_frames(FRAMES)
        standin.failures.extend([(grpc.StatusCode.UNAVAILABLE, "Socket closed")] * 20)

        async def answer_others(duration_s: float) -> None:
            time.sleep(duration_s)
            failing = list(standin.failures)
            standin.failures.clear()
            client.classify_frames(FRAMES)
            standin.failures.extend(failing)

        monkeypatch.setattr(client._session.transport, "sleep", answer_others)
        with pytest.raises(ServerUnavailable):
            client.classify_frames(FRAMES)
        standin.failures.clear()
        standin.failures.append((grpc.StatusCode.UNAVAILABLE, "Socket closed"))
        client.classify_frames(FRAMES)  # which is tried again


def test_an_address_where_nothing_ever_answered_fails_at_once(
    standin: StandinServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    standin.stop()
    with Client(standin.url) as client:
        pauses = record_pauses(client, monkeypatch)
        assert not client.is_ready()
        with pytest.raises(ServerUnavailable, match=f"no server answers at {standin.url}; start one"):
            client.classify_frames(FRAMES)
    assert pauses == []


def test_silence_is_a_timeout(standin: StandinServer) -> None:
    with Client(standin.url) as client:
        client.server_info()
        client._session._timeout_s = 0.3
        standin.hold.clear()
        started = time.monotonic()
        with pytest.raises(RequestTimeout, match="raise the timeout"):
            client.classify_frames(FRAMES)
        assert time.monotonic() - started < 15


def test_the_deadline_holds_over_retries(standin: StandinServer) -> None:
    standin.failures.extend([BUSY] * 100)
    started = time.monotonic()
    with Client(standin.url, timeout_s=0.5) as client, pytest.raises(ClientError):
        client.classify_frames(FRAMES)
    assert time.monotonic() - started < 15


def test_a_missing_member_is_said_at_once(standin: StandinServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client(standin.url, member="heavy") as client:
        client.classify_frames(FRAMES, member="lite")
        pauses = record_pauses(client, monkeypatch)
        with pytest.raises(ModelUnavailable, match="has no model 'classify_heavy': ask for another member, or serve"):
            client.server_info()
    assert pauses == [], "a wrong name is no passing failure"


def test_member_and_augmentation_are_those_of_the_client_unless_the_call_says(standin: StandinServer) -> None:
    with Client(standin.url, member="lite") as client:
        client.classify_frames(FRAMES)
        client.classify_frames(FRAMES, member="lite", tta="off")
    with Client(standin.url, tta="fast") as client:
        client.classify_frames(FRAMES)
        answer = client.classify_frames(FRAMES[0], tta="full")
    assert standin.asked == ["classify_lite", "classify_lite", "classify_tta_fast", "classify_tta"]
    assert isinstance(answer, Prediction)
    assert answer.model.views == ("identity", "flip")


def test_every_call_takes_member_and_augmentation(standin: StandinServer, clip_path: Path) -> None:
    with Client(standin.url) as client:
        client.classify(clip_path, tta="full")
        client.classify_bytes(clip_path.read_bytes(), tta="full")
        list(client.classify_many([clip_path], tta="full"))
        assert client.server_info(tta="full").model.ensemble == "classify_tta"
    assert standin.asked == ["classify_tta"] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tta": "much"}, "there is no test-time augmentation 'much', only off, fast, full"),
        ({"member": "a\nb"}, r"no member is called 'a\\nb'"),
        ({"member": ""}, "no member is called ''"),
        (
            {"headers": {"Transfer-Encoding": "chunked"}},
            "'transfer-encoding' cannot be given: it says how requests are",
        ),
        ({"abstain": 1.5}, "abstain must be True, False or a confidence from 0 to 1, got 1.5"),
        ({"abstain": float("nan")}, "abstain must be"),
        ({"abstain": "much"}, "abstain must be"),
        ({"num_frames": 0}, "num_frames must be a number from 1 to 300, got 0"),
        ({"num_frames": 301}, "num_frames must be a number from 1 to 300, got 301"),
        ({"headers": {"a b": "c"}}, "'a b' cannot be the name of a header"),
        ({"url": "nonsense"}, "'nonsense' is not an address"),
    ],
)
def test_options_of_no_use_are_said_when_the_client_is_made(options: dict, message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        Client(**{"url": "host:1", **options})


def test_an_empty_choice_is_not_the_default(standin: StandinServer, clip_path: Path) -> None:
    with Client(standin.url, tta="fast") as client:
        with pytest.raises(InvalidOption, match="no test-time augmentation ''"):
            client.classify(clip_path, tta="")
        with pytest.raises(InvalidOption, match="no member is called ''"):
            client.classify(clip_path, member="")


def test_what_is_no_path_is_said_and_the_others_are_answered(standin: StandinServer, clip_path: Path) -> None:
    with Client(standin.url) as client:
        with pytest.raises(
            InvalidOption, match=r"a path is a str or .*, got b'x.mp4': os.fsdecode\(\) makes a text of it"
        ):
            client.classify(b"x.mp4")  # type: ignore[arg-type]
        with pytest.raises(InvalidOption, match=r"a path is a str or an os.PathLike of one, got 7"):
            client.extract_features(7)  # type: ignore[arg-type]
        none, right = client.classify_many([None, clip_path])  # type: ignore[list-item]
    assert isinstance(none, Failure)
    assert none.path == "None"
    assert isinstance(right, Prediction)


GREYISH = np.full((4, 8, 8, 3), (100, 90, 80), np.uint8)  # animation, with a confidence of 0.35


def test_below_the_threshold_asked_for_there_is_a_reason_and_no_label(standin: StandinServer) -> None:
    with Client(standin.url, abstain=0.5) as client:
        unsure, sure = client.classify_frames(np.stack([GREYISH, np.full_like(GREYISH, (255, 0, 0))]))  # type: ignore[misc]
    assert (unsure.label, sure.label, sure.reason) == (None, "animation", None)
    assert unsure.reason == f"confidence {unsure.confidence:.3f} is below 0.500, the threshold asked for"
    assert unsure.confidence == max(unsure.scores.values()) < 0.5
    assert unsure.to_dict()["label"] is None
    assert unsure.to_dict()["reason"] == unsure.reason


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("0.3", None),
        ("0.9", "is below 0.900, the threshold chosen on validation clips"),
        ("1.02", "no confidence was high enough"),
    ],
)
def test_the_servers_threshold_is_taken_on_request(standin: StandinServer, told: str, reason: str | None) -> None:
    standin.parameters["abstain_below"] = told
    with Client(standin.url, abstain=True) as abstaining, Client(standin.url) as client:
        found, plain = abstaining.classify_frames(GREYISH), client.classify_frames(GREYISH)
    assert isinstance(found, Prediction)
    assert isinstance(plain, Prediction)
    assert (plain.label, plain.reason) == ("animation", None)
    assert found.label == ("animation" if reason is None else None)
    assert reason is None or (found.reason is not None and reason in found.reason)
    assert found.scores == plain.scores


def test_a_server_without_a_threshold_is_an_error_with_the_way_out(standin: StandinServer, clip_path: Path) -> None:
    with Client(standin.url, abstain=True) as client:
        for ask in (lambda: client.classify_frames(GREYISH), lambda: client.classify_many([clip_path])):
            with pytest.raises(InvalidOption, match=r"tells no confidence for 'classify' .* name one, e\.g\. abstain="):
                ask()
    assert standin.requests == []


def test_an_untrained_member_is_named_in_every_answer(standin: StandinServer) -> None:
    standin.parameters["untrained"] = "lite"
    with Client(standin.url) as client:
        answer = client.classify_frames(GREYISH)
    assert isinstance(answer, Prediction)
    assert answer.model.untrained == ("lite",)
    assert answer.to_dict()["model"]["untrained"] == ["lite"]
    assert repr(answer).endswith("by lite (untrained)>")


def test_other_weights_are_noticed_while_the_client_lives(
    standin: StandinServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(standin.url) as client:
        before = client.server_info()
        standin.parameters["weights"] = "1" * 64
        assert client.server_info() is before, "asked once, not with every request"
        monkeypatch.setattr("reelkind.client.connection.INFO_AGE_S", 0)
        assert client.server_info().model.weights == ("1" * 64,)


def test_an_answer_of_another_version_is_labelled_with_its_weights(standin: StandinServer) -> None:
    with Client(standin.url) as client:
        client.classify_frames(GREYISH)
        standin.parameters["weights"], standin.version = "1" * 64, "2"
        answer = client.classify_frames(GREYISH)
    assert isinstance(answer, Prediction)
    assert answer.model.weights == ("1" * 64,)


def test_features_and_answers_from_them_go_through_the_same_requests(standin: StandinServer) -> None:
    with Client(standin.url) as client:
        session = client._session
        features = finish(session.request("features_lite", {"frames": FRAMES}))
        answers = finish(session.predict("classify_features_lite", features, times_ms=[0, 1, 2, 3, 4]))
        with pytest.raises(RequestTooLarge, match="9 videos"):
            finish(session.request("classify_features_lite", {"features_lite": np.zeros((9, 1, 1, 3), np.float32)}))
        with pytest.raises(RequestRejected, match="one time for each of the 5 frames"):
            finish(session.predict("classify_features_lite", features, times_ms=[0]))
    np.testing.assert_allclose(features["features_lite"], expected_features(FRAMES), rtol=1e-5)
    found = [list(answer.scores.values()) for answer in answers]
    np.testing.assert_allclose(found, expected_probabilities(FRAMES), rtol=1e-5)


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
    with Client("127.0.0.1:1") as client, pytest.raises(ServerUnavailable, match="after 0 s: no server answers at"):
        client.wait_until_ready(0)


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
    assert standin.most_at_once == 3


def _wait_for(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_many_without_a_server_is_one_error(standin: StandinServer, clip_path: Path) -> None:
    standin.stop()
    with Client(standin.url) as client, pytest.raises(ServerUnavailable):
        client.classify_many([clip_path] * 100)


def test_concurrency_below_one_is_refused(standin: StandinServer) -> None:
    with Client(standin.url) as client, pytest.raises(InvalidOption, match="concurrency must be at least 1"):
        client.classify_many([], concurrency=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout_s": 0}, r"^timeout_s must be above 0 and at most 86400 \(a day\), got 0$"),
        ({"timeout_s": float("inf")}, "got inf"),
        ({"timeout_s": float("nan")}, "got nan"),
        ({"retry_s": -1}, r"^retry_s must be from 0 \(never again\) to 86400 \(a day\), got -1$"),
        ({"retry_s": float("nan")}, "got nan"),
    ],
    ids=["no-time", "for-ever", "no-number", "before-now", "no-number-again"],
)
def test_durations_of_no_use_are_refused_before_anything_is_sent(options: dict, message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        Client("127.0.0.1:1", **options)


@pytest.mark.parametrize("path", ["film.mp4", Path("film.mp4")], ids=["text", "path"])
def test_one_path_is_not_taken_for_a_row_of_letters(standin: StandinServer, path) -> None:
    with Client(standin.url) as client, pytest.raises(InvalidOption, match=r"film\.mp4'\)?: write \[path\], or call"):
        client.classify_many(path)


@pytest.mark.parametrize(
    ("times_ms", "message"),
    [
        (["a"] * 5, "times_ms are no whole numbers of milliseconds"),
        ([1 << 80] * 5, "times_ms are no whole numbers of milliseconds"),
        ([[1], [2, 3]], "times_ms are no whole numbers of milliseconds"),
        ([1, 2], r"times_ms has shape \[2\], required is one time for each of the 5 frames"),
    ],
    ids=["letters", "too-large", "ragged", "too-few"],
)
def test_times_of_no_use_are_refused(standin: StandinServer, times_ms, message: str) -> None:
    with Client(standin.url) as client, pytest.raises(RequestRejected, match=message):
        client.classify_frames(FRAMES[0], times_ms)
