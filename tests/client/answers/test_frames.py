"""What frames show, as the client tells it: both protocols and clients, files, features and cache; older servers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from http_standin import HttpStandin
from standin import StandinServer, expected_frames
from videos import write_video

from reelkind.client import AsyncClient, Client, ContractMismatch, FeatureCache, Prediction, ServerFailed
from reelkind.core.files import features_files
from reelkind.video.clip import read_clip

RED, GREEN, BLUE = ((255, 0, 0), (0, 255, 0), (0, 0, 255))  # animation, gaming, natural: each 0.95 sure
MIXED = "frames disagree (gaming 75%, natural 25% of them): a timeline tells which kind is shown when"


def pictures(*colours: tuple[int, int, int]) -> np.ndarray:
    return np.broadcast_to(np.array(colours, np.uint8)[:, None, None], (len(colours), 8, 8, 3)).copy()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of which three quarters are green, then blue."""
    shown = [GREEN] * 30 + [BLUE] * 10

    def frame(index: int, width_px: int, height_px: int) -> np.ndarray:
        return np.broadcast_to(np.array(shown[index], np.uint8), (height_px, width_px, 3)).copy()

    return write_video(
        tmp_path_factory.mktemp("videos") / "mixed.mp4", len(shown), fps=5, size_px=(64, 64), picture=frame
    )


def classified(url: str, frames: np.ndarray) -> Prediction:
    with Client(url) as client:
        answer = client.classify_frames(frames)
    assert isinstance(answer, Prediction)
    return answer


def test_each_frame_has_its_scores_and_mixed_kinds_a_warning(standin: StandinServer) -> None:
    frames = pictures(GREEN, GREEN, GREEN, BLUE)
    answer = classified(standin.url, frames)
    assert answer.frame_scores is not None
    np.testing.assert_allclose(answer.frame_scores, expected_frames(frames[None])[0], atol=1e-6)
    assert answer.frame_scores.dtype == np.float32
    assert answer.warnings == (MIXED,)
    assert answer.label == "gaming"
    assert classified(standin.url, pictures(GREEN, GREEN, GREEN, GREEN)).warnings == ()


def test_videos_of_one_request_are_warned_of_one_by_one(standin: StandinServer) -> None:
    both = np.stack([pictures(RED, RED, RED, RED), pictures(RED, RED, BLUE, BLUE)])
    with Client(standin.url) as client:
        plain, mixed = client.classify_frames(both)  # type: ignore[misc]
    assert plain.warnings == ()
    assert mixed.warnings[0].startswith("frames disagree (animation 50%, natural 50% of them)")


def test_http_asyncio_features_and_cache_tell_the_same(
    standin: StandinServer, http_standin: HttpStandin, mixed: Path, tmp_path: Path
) -> None:
    expected = expected_frames(read_clip(mixed, num_frames=4, size_px=32).frames[None])[0]

    async def ask() -> Prediction:
        async with AsyncClient(standin.url) as client:
            return await client.classify(mixed)

    features = tmp_path / f"mixed{features_files.SUFFIX}"
    with Client(standin.url) as client, Client(http_standin.url) as by_http:
        features_files.save(client.extract_features(mixed), features)
        answers = [client.classify(mixed), by_http.classify(mixed), client.classify(features), asyncio.run(ask())]
    with Client(standin.url, cache=FeatureCache(tmp_path / "cache")) as cached:
        answers += [cached.classify(mixed), cached.classify(mixed)]
    assert answers[-1].from_cache
    for answer in answers:
        assert answer.frame_scores is not None
        np.testing.assert_allclose(answer.frame_scores, expected, atol=1e-5)
        assert answer.warnings == (MIXED,)


def test_json_has_warnings_always_and_scores_of_frames_where_it_has_frames(standin: StandinServer) -> None:
    answer = classified(standin.url, pictures(GREEN, GREEN, GREEN, BLUE))
    assert answer.frame_scores is not None
    raw = json.loads(json.dumps(answer.to_dict()))
    np.testing.assert_allclose(raw["frame_scores"], answer.frame_scores, atol=1e-6)
    assert raw["warnings"] == [MIXED]
    short = answer.to_dict(attention=False)
    assert "frame_scores" not in short
    assert short["warnings"] == [MIXED]


def test_servers_of_earlier_releases_work_and_warn_of_nothing(standin: StandinServer, mixed: Path) -> None:
    standin.tells_frames = False
    with Client(standin.url) as client:
        answer = client.classify(mixed)
        assert not client.server_info().tells_frames
    assert (answer.label, answer.frame_scores, answer.warnings) == ("gaming", None, ())
    assert answer.to_dict()["frame_scores"] is None


def test_scores_of_another_shape_or_that_are_no_numbers_are_refused(standin: StandinServer) -> None:
    frames = pictures(GREEN, GREEN, GREEN, BLUE)
    with Client(standin.url, retry_s=0) as client:
        standin.outputs["frame_probabilities"] = (np.zeros((1, 3, 4), np.float32), [1, 3, 4])
        with pytest.raises(ContractMismatch, match=r"frame_probabilities float32\[1, 3, 4\]"):
            client.classify_frames(frames)
        standin.outputs["frame_probabilities"] = (np.full((1, 4, 4), np.nan, np.float32), [1, 4, 4])
        with pytest.raises(ServerFailed, match="not numbers"):
            client.classify_frames(frames)
        standin.outputs["frame_probabilities"] = None
        with pytest.raises(ContractMismatch):
            client.classify_frames(frames)
