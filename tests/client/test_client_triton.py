"""Both clients against a real tritonserver: decoding, handshake, answers, batches, errors as Triton words them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tritonclient import grpc
from videos import write_video

from reelkind.client import (
    AsyncClient,
    Client,
    ContractMismatch,
    Failure,
    ModelUnavailable,
    Prediction,
    ProcessDecoder,
    RequestTimeout,
)
from reelkind.client.transport.transport import finish
from reelkind.core.files.server_keys import KEY_HEADER
from reelkind.core.specs import classify_name
from reelkind.core.taxonomy.classes import CLASSES
from reelkind.serving.control import Control
from reelkind.video.clip import read_clip

if TYPE_CHECKING:
    from reelkind.core.bundle import Bundle
    from reelkind.serving.server import TritonServer

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module", params=["grpc", "http"])
def client(triton_server: TritonServer, request: pytest.FixtureRequest) -> Iterator[Client]:
    url = triton_server.url if request.param == "grpc" else triton_server.http_url
    with Client(url, timeout_s=120) as client:
        yield client


@pytest.fixture(scope="module")
def clip_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / "a.mp4", 50)


@pytest.fixture(scope="module")
def frames(clip_path: Path) -> np.ndarray:
    return read_clip(clip_path, num_frames=4).frames


def one(client: Client, frames: np.ndarray) -> Prediction:
    prediction = client.classify_frames(frames)
    assert isinstance(prediction, Prediction)
    return prediction


def scores(prediction: Prediction) -> list[float]:
    return list(prediction.scores.values())


def test_the_handshake_describes_the_bundle(client: Client, served_bundle: Bundle) -> None:
    info = client.server_info()
    assert (info.num_frames, info.frame_size_px) == (served_bundle.num_frames, served_bundle.backbone.frame_size_px)
    assert info.classes == CLASSES
    assert (info.model.members, info.model.trained) == ((served_bundle.name,), served_bundle.trained)
    assert client.is_ready()


def test_a_file_gets_a_distribution_and_attention_over_its_frames(client: Client, clip_path: Path) -> None:
    prediction = client.classify(clip_path)
    assert sum(scores(prediction)) == pytest.approx(1, abs=1e-4)
    assert prediction.label == CLASSES[int(np.argmax(scores(prediction)))]
    assert prediction.attention.shape == (client.server_info().num_frames,)
    assert prediction.attention.sum() == pytest.approx(1, abs=1e-3)
    assert prediction.times_ms is not None
    assert (np.diff(prediction.times_ms) >= 0).all()
    assert np.isfinite(prediction.embedding).all()


def test_a_batch_answers_as_its_videos_would_alone(client: Client, frames: np.ndarray) -> None:
    batch = np.stack([frames, frames[::-1], 255 - frames])
    together = client.classify_frames(batch)
    assert not isinstance(together, Prediction)
    for prediction, video in zip(together, batch, strict=True):
        alone = one(client, video)
        assert scores(prediction) == pytest.approx(scores(alone), abs=1e-4)
        assert prediction.label == alone.label


@pytest.mark.parametrize("shape", [(1, 224, 224), (3, 100, 77), (17, 64, 480)], ids=str)
def test_any_number_and_size_of_frames_is_answered(client: Client, shape: tuple[int, int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    assert one(client, frames).attention.shape == shape[:1]


def test_the_asyncio_client_gives_the_same_answers(
    triton_server: TritonServer, client: Client, clip_path: Path
) -> None:
    async def ask() -> list[Prediction | Failure]:
        async with AsyncClient(triton_server.url, timeout_s=120) as asking:
            return [answer async for answer in asking.classify_many([clip_path] * 3)]

    expected = scores(client.classify(clip_path))
    for answer in asyncio.run(ask()):
        assert isinstance(answer, Prediction)
        assert scores(answer) == pytest.approx(expected, abs=1e-4)


def test_many_files_through_decoding_processes(triton_server: TritonServer, clip_path: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with ProcessDecoder(2) as decoder, Client(triton_server.url, timeout_s=120, decoder=decoder) as client:
        answers = list(client.classify_many([clip_path, tmp_path / "text.mp4", clip_path]))
    assert [isinstance(answer, Prediction) for answer in answers] == [True, False, True]


def test_members_and_augmentation_are_chosen_per_call(
    client: Client, served_bundle: Bundle, frames: np.ndarray
) -> None:
    views = {}
    for tta in ("off", "fast", "full"):
        answer = client.classify_frames(frames, member=served_bundle.name, tta=tta)
        assert isinstance(answer, Prediction)
        assert answer.model.ensemble == classify_name(served_bundle.name, tta)
        assert answer.model.members == (served_bundle.name,)
        assert sum(scores(answer)) == pytest.approx(1, abs=1e-4)
        views[tta] = (len(answer.model.views), len(answer.model.temporal_views))
    assert views["off"] == (1, 1)
    assert views["fast"][0] == 1 < views["fast"][1] <= views["full"][1]
    assert views["full"][0] > 1


def test_full_augmentation_does_not_tell_left_from_right(client: Client, frames: np.ndarray) -> None:
    full, mirrored = (client.classify_frames(video, tta="full") for video in (frames, frames[:, :, ::-1]))
    assert isinstance(full, Prediction)
    assert isinstance(mirrored, Prediction)
    assert scores(full) == pytest.approx(scores(mirrored), abs=1e-3)


def test_errors_are_recognised_in_tritons_own_words(
    triton_server: TritonServer, served_bundle: Bundle, frames: np.ndarray
) -> None:
    for url in (triton_server.url, triton_server.http_url):
        with Client(url) as client, pytest.raises(ModelUnavailable, match="has no model 'classify_nope'"):
            client.server_info(member="nope")
        with Client(url) as client, pytest.raises(ContractMismatch, match="is no ensemble of reelkind"):
            finish(client._session.info(f"head_{served_bundle.name}"))
    with Client(triton_server.url, timeout_s=120) as client:
        client.server_info()
        client._session._timeout_s = 0.001
        with pytest.raises(RequestTimeout):
            client.classify_frames(frames)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_new_client_waits_for_a_model_that_is_being_loaded_again(
    triton_server: TritonServer, served_bundle: Bundle, frames: np.ndarray, protocol: str
) -> None:
    name = classify_name(served_bundle.name, "fast")
    control = Control(triton_server.url, triton_server.key)
    url = triton_server.url if protocol == "grpc" else triton_server.http_url
    with grpc.InferenceServerClient(triton_server.url) as owner, ThreadPoolExecutor(1) as pool:
        owner.unload_model(name, headers={f"triton-grpc-protocol-{KEY_HEADER}": triton_server.key})
        with Client(url, timeout_s=120, retry_s=0) as hasty, pytest.raises(ModelUnavailable, match="has no model"):
            hasty.server_info(member=served_bundle.name, tta="fast")
        with Client(url, timeout_s=120) as client:
            asked = pool.submit(client.classify_frames, frames, member=served_bundle.name, tta="fast")
            time.sleep(0.5)
            assert not asked.done()
            control.load(name)
            assert isinstance(asked.result(timeout=60), Prediction)
    control.close()


def test_the_command_answers_through_a_real_server(
    triton_server: TritonServer, clip_path: Path, capsys: pytest.CaptureFixture
) -> None:
    from reelkind.cli.main import main

    assert main(["classify", "--url", triton_server.url, "--timeout", "120", "--jsonl", str(clip_path)]) == 0
    assert json.loads(capsys.readouterr().out)["label"] in CLASSES
