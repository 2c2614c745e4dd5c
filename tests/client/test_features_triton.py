"""Features, their files and their cache against a real tritonserver: the same answers as from the video, to the bit."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from videos import write_video

from reelkind.client import (
    AsyncClient,
    Client,
    Failure,
    FeatureCache,
    FeaturesError,
    InlineDecoder,
    Prediction,
    VideoError,
)
from reelkind.core.files import features_files as files
from reelkind.core.specs import TTA

if TYPE_CHECKING:
    from reelkind.serving.server import TritonServer

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module")
def client(triton_server: TritonServer) -> Iterator[Client]:
    with Client(triton_server.url, timeout_s=120) as client:
        yield client


@pytest.fixture(scope="module")
def clip_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / "a.mp4", 50)


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache")


@pytest.fixture
def cached(triton_server: TritonServer, cache: FeatureCache) -> Iterator[Client]:
    with Client(triton_server.url, timeout_s=120, cache=cache) as client:
        yield client


def assert_same_answer(found: Prediction, expected: Prediction) -> None:
    assert dict(found.scores) == dict(expected.scores)
    assert (found.label, found.confidence) == (expected.label, expected.confidence)
    assert np.array_equal(found.attention, expected.attention)
    assert np.array_equal(found.embedding, expected.embedding)
    assert found.times_ms is not None
    assert expected.times_ms is not None
    assert np.array_equal(found.times_ms, expected.times_ms)
    assert replace(found.model, ensemble=expected.model.ensemble) == expected.model


@pytest.mark.parametrize("tta", TTA)
def test_an_answer_from_the_cache_equals_one_from_the_video_to_the_bit(
    client: Client, cached: Client, clip_path: Path, tta: str
) -> None:
    expected = client.classify(clip_path, tta=tta)
    computed, kept = cached.classify(clip_path, tta=tta), cached.classify(clip_path, tta=tta)
    assert (expected.from_cache, computed.from_cache, kept.from_cache) == (False, False, True)
    assert_same_answer(computed, expected)
    assert_same_answer(kept, expected)
    assert kept.to_dict()["from_cache"] is True
    assert set(kept.timings_ms) == {"decode", "infer", "total"}


def test_off_and_fast_share_features(cached: Client, cache: FeatureCache, clip_path: Path) -> None:
    assert [cached.classify(clip_path, tta=tta).from_cache for tta in TTA] == [False, True, False]
    assert cache.info().num_entries == 2


def test_features_of_key_frames_and_of_exact_frames_are_kept_apart(
    triton_server: TritonServer, cached: Client, cache: FeatureCache, tmp_path: Path
) -> None:
    path = write_video(tmp_path / "long.mp4", 200, gop=10)
    exact = cached.classify(path)
    decoder = InlineDecoder(seek="keyframes")
    with Client(triton_server.url, timeout_s=120, cache=cache, decoder=decoder) as client:
        computed, kept = client.classify(path), client.classify(path)
    assert [exact.from_cache, computed.from_cache, kept.from_cache] == [False, False, True]
    assert_same_answer(kept, computed)
    assert exact.times_ms is not None
    assert computed.times_ms is not None
    assert (computed.times_ms < exact.times_ms).any()
    (warning,) = [each for each in kept.warnings if "key frames" in each]
    assert warning in computed.warnings
    assert not any("key frames" in each for each in exact.warnings)


def test_a_copy_is_known_and_a_change_is_not(cached: Client, clip_path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.mp4"
    shutil.copy(clip_path, copy)
    cached.classify(clip_path)
    found = cached.classify(copy)
    assert (found.from_cache, found.path) == (True, str(copy))
    write_video(copy, 51)
    assert not cached.classify(copy).from_cache


def test_bytes_and_many_files_use_the_cache(cached: Client, clip_path: Path) -> None:
    first = cached.classify_bytes(clip_path.read_bytes(), "upload.mp4")
    assert (first.from_cache, first.path) == (False, "upload.mp4")
    many = list(cached.classify_many([clip_path, "nope.mp4", clip_path]))
    assert [getattr(answer, "from_cache", None) for answer in many] == [True, None, True]
    assert isinstance(many[1], Failure)
    assert str(many[1].error) == "nope.mp4: no such file"
    with pytest.raises(VideoError, match=r"^upload\.mp4: not a readable video"):
        cached.classify_bytes(b"no video", "upload.mp4")


def test_the_asyncio_client_shares_the_cache(
    triton_server: TritonServer, cached: Client, cache: FeatureCache, clip_path: Path
) -> None:
    async def ask() -> tuple[Prediction, Prediction]:
        async with AsyncClient(triton_server.url, timeout_s=120, cache=cache) as client:
            features = await client.extract_features(clip_path)
            return await client.classify(clip_path), await client.classify_features(features)

    expected = cached.classify(clip_path)
    kept, from_features = asyncio.run(ask())
    assert kept.from_cache
    assert_same_answer(kept, expected)
    assert_same_answer(from_features, expected)


def test_a_damaged_entry_is_made_anew(cached: Client, cache: FeatureCache, clip_path: Path) -> None:
    expected = cached.classify(clip_path)
    (entry,) = cache.folder.glob("*/*.safetensors")
    entry.write_bytes(entry.read_bytes()[:-1])
    again = cached.classify(clip_path)
    assert not again.from_cache
    assert_same_answer(again, expected)
    assert cached.classify(clip_path).from_cache


@pytest.mark.parametrize("tta", ["off", "fast"])
def test_a_features_file_is_classified_as_its_video(client: Client, clip_path: Path, tmp_path: Path, tta: str) -> None:
    path = tmp_path / f"a{files.SUFFIX}"
    features = client.extract_features(clip_path, tta=tta)
    files.save(features, path)
    expected = client.classify(clip_path, tta=tta)
    found = client.classify(path, tta=tta)
    assert found.path == str(path)
    assert_same_answer(found, expected)
    assert_same_answer(client.classify_features(features, tta=tta), expected)
    info = client.server_info(tta=tta)
    for member, array in features.arrays.items():
        num_views = len(info.model.views)
        assert array.shape == (num_views, info.num_frames, info.feature_dims[member])
    assert features.recipe == client.features_recipe(tta=tta)
    assert features.recipe.weights == info.model.weights


def test_features_of_all_views_serve_those_who_want_one(client: Client, clip_path: Path) -> None:
    full = client.extract_features(clip_path, tta="full")
    for tta in ("off", "fast"):
        assert_same_answer(client.classify_features(full, tta=tta), client.classify(clip_path, tta=tta))
    one = client.extract_features(clip_path)
    with pytest.raises(
        FeaturesError, match=r"^<features>: features of the views identity, needed are identity, .*tta full"
    ):
        client.classify_features(one, tta="full")


def test_features_of_other_weights_are_refused_with_the_way_out(client: Client, clip_path: Path) -> None:
    features = client.extract_features(clip_path)
    others = replace(features, recipe=replace(features.recipe, weights=("f" * 64,)))
    with pytest.raises(FeaturesError, match=r"made with .* ffffffffffff, asked is .*: ask the member it was made with"):
        client.classify_features(others, name="old.features.safetensors")


def test_a_window_of_a_timeline_is_the_clip_of_its_time(client: Client, tmp_path: Path) -> None:
    info = client.server_info()
    path = write_video(tmp_path / "a.mp4", 25 * 4)
    timeline = client.timeline(path, rate=info.num_frames / 4, window_s=4)
    (window,) = timeline.windows
    expected = client.classify(path)
    assert (window.start_ms, window.end_ms) == (0, 4000)
    assert list(window.scores.values()) == pytest.approx(list(expected.scores.values()), abs=1e-5)
    assert window.embedding == pytest.approx(expected.embedding, abs=1e-4)
    assert timeline.label == window.label == expected.label
    assert replace(timeline.model, ensemble="") == replace(expected.model, ensemble="")


def test_a_timeline_of_several_windows_through_temporal_views(client: Client, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 50)
    timeline = client.timeline(path, rate=20, window_s=0.8, tta="fast")
    assert timeline.duration_ms == 2000
    assert [window.start_ms for window in timeline.windows] == [0, 400, 800, 1200]
    assert len(timeline.model.temporal_views) > 1
