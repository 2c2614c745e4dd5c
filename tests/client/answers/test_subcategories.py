"""Subcategories as the client tells them: both protocols and clients, files, features and timelines; older servers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from http_standin import HttpStandin
from PIL import Image
from standin import StandinServer, expected_probabilities, expected_subcategories
from videos import write_video

from reelkind.client import AsyncClient, Client, ContractMismatch, FeatureCache, Prediction, ServerFailed
from reelkind.client.answers.subcategories import StretchMeans, in_step
from reelkind.core.files import features_files
from reelkind.core.taxonomy.classes import places_of_classes, subcategory_names

LEARNT = ("moba", "strategy_rts", "pets", "cg3d_feature", "anime_mecha", "slideshow_photo_montage")
RED, GREEN, BLUE = ((255, 0, 0), (0, 255, 0), (0, 0, 255))  # animation, gaming, natural


def picture(*colours: tuple[int, int, int]) -> np.ndarray:
    return np.broadcast_to(np.array(colours, np.uint8)[:, None, None], (len(colours), 8, 8, 3)).copy()


@pytest.fixture
def finer(standin: StandinServer) -> StandinServer:
    standin.subcategories_learnt = LEARNT
    return standin


@pytest.fixture(scope="module")
def green(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "green.png"
    Image.new("RGB", (32, 32), GREEN).save(path)
    return path


def check(prediction: object, colour: tuple[int, int, int] = GREEN) -> None:
    assert isinstance(prediction, Prediction)
    classes = expected_probabilities(picture(colour)[None])
    assert prediction.subcategories is not None
    assert tuple(prediction.subcategories) == subcategory_names()
    found = np.array(list(prediction.subcategories.values()))
    np.testing.assert_allclose(found, expected_subcategories(classes)[0], atol=1e-6)
    for name, places in places_of_classes().items():
        assert found[places].sum() == pytest.approx(prediction.scores[name], abs=1e-6)
    assert (prediction.label, prediction.subcategory) == ("gaming", "strategy_rts")  # the later of the two learnt
    assert prediction.subcategory_confidence == prediction.subcategories["strategy_rts"]


def test_the_likeliest_learnt_one_of_the_class_is_named(finer: StandinServer, green: Path) -> None:
    with Client(finer.url) as client:
        check(client.classify(green))
        assert client.server_info().model.subcategories_learnt == LEARNT
        batch = client.classify_frames(np.stack([picture(RED), picture(BLUE)]))
        assert not isinstance(batch, Prediction)
        assert [answer.subcategory for answer in batch] == ["cg3d_feature", "pets"]
        assert [name for name, _ in batch[0].top_subcategories(2)] == ["cg3d_feature", "anime_mecha"]


def test_http_and_the_asynchronous_client_tell_the_same(http_standin: HttpStandin, green: Path) -> None:
    http_standin.standin.subcategories_learnt = LEARNT
    with Client(http_standin.url) as client:
        check(client.classify(green))

    async def ask() -> Prediction:
        async with AsyncClient(http_standin.url) as client:
            return await client.classify(green)

    check(asyncio.run(ask()))


def test_features_files_and_the_cache_tell_them_too(finer: StandinServer, green: Path, tmp_path: Path) -> None:
    with Client(finer.url, cache=FeatureCache(tmp_path / "cache")) as client:
        for from_cache in (False, True):
            answer = client.classify(green)
            assert answer.from_cache is from_cache
            check(answer)
        path = tmp_path / "green.features.safetensors"
        features_files.save(client.extract_features(green), path)
        check(client.classify(path))


def test_nothing_is_named_without_a_label_or_of_a_class_that_was_not_learnt(finer: StandinServer) -> None:
    with Client(finer.url, abstain=0.999) as client:
        unsure = client.classify_frames(picture(GREEN))
    assert isinstance(unsure, Prediction)
    assert (unsure.label, unsure.subcategory, unsure.subcategory_confidence) == (None, None, None)
    assert unsure.subcategories is not None
    finer.subcategories_learnt = ("pets",)
    with Client(finer.url) as client:
        other = client.classify_frames(picture(GREEN))
    assert isinstance(other, Prediction)
    assert (other.label, other.subcategory) == ("gaming", None)
    assert other.top_subcategories(5) == [("pets", pytest.approx(other.subcategories["pets"]))]  # type: ignore[index]


def test_json_has_the_likeliest_five_or_all(finer: StandinServer) -> None:
    with Client(finer.url) as client:
        answer = client.classify_frames(picture(GREEN))
    assert isinstance(answer, Prediction)
    raw = json.loads(json.dumps(answer.to_dict()))
    assert raw["subcategory"] == "strategy_rts"
    assert raw["subcategory_confidence"] == pytest.approx(answer.subcategory_confidence, abs=1e-6)
    assert list(raw["subcategories"])[:2] == ["strategy_rts", "moba"]
    assert len(raw["subcategories"]) == 5
    assert set(raw["subcategories"]) < set(LEARNT)
    assert tuple(answer.to_dict(all_subcategories=True)["subcategories"]) == subcategory_names()


def test_servers_without_them_work_as_before(standin: StandinServer, green: Path) -> None:
    with Client(standin.url) as client:
        answer = client.classify(green)
    assert (answer.label, answer.subcategory, answer.subcategory_confidence, answer.subcategories) == (
        *("gaming", None, None, None),
    )
    assert answer.to_dict()["subcategories"] is None
    assert answer.model.subcategories_learnt is None
    assert answer.top_subcategories(3) == []


def test_a_server_with_another_taxonomy_is_refused(finer: StandinServer) -> None:
    finer.subcategories_learnt = ("moba", "dinosaurs")
    with Client(finer.url) as client, pytest.raises(ContractMismatch, match="unknown subcategories dinosaurs"):
        client.classify_frames(picture(GREEN))


def test_subcategories_of_another_shape_or_that_are_no_numbers_are_refused(finer: StandinServer) -> None:
    with Client(finer.url, retry_s=0) as client:
        finer.outputs["subcategories"] = (np.zeros((1, 45), np.float32), [1, 45])
        with pytest.raises(ContractMismatch, match=r"subcategories float32\[1, 45\]"):
            client.classify_frames(picture(GREEN))
        finer.outputs["subcategories"] = (np.full((1, 46), np.nan, np.float32), [1, 46])
        with pytest.raises(ServerFailed, match="not numbers"):
            client.classify_frames(picture(GREEN))


def test_segments_of_a_timeline_name_theirs(finer: StandinServer, tmp_path: Path) -> None:
    shown = [RED] * 30 + [GREEN] * 30

    def frame(index: int, width_px: int, height_px: int) -> np.ndarray:
        return np.broadcast_to(np.array(shown[index], np.uint8), (height_px, width_px, 3)).copy()

    path = write_video(tmp_path / "two.mp4", len(shown), fps=5, size_px=(64, 64), picture=frame)
    with Client(finer.url) as client:
        timeline = client.timeline(path, rate=2.0)
    named = [(segment.label, segment.subcategory) for segment in timeline.segments]
    assert named == [("animation", "cg3d_feature"), ("gaming", "strategy_rts")]
    places = places_of_classes()["gaming"]
    rank = subcategory_names().index("strategy_rts") - places.start + 1
    share = rank / sum(range(1, places.stop - places.start + 1))
    assert timeline.segments[1].subcategory_confidence == pytest.approx(
        timeline.segments[1].confidence * share, rel=0.02
    )
    assert timeline.to_dict()["segments"][0]["subcategory"] == "cg3d_feature"


def test_a_stretch_is_the_mean_of_its_frames() -> None:
    means = StretchMeans()
    one, two, three = np.eye(3)
    means.add(0, 4, one)
    means.add(2, 6, two)
    assert means.take(0, 4) == pytest.approx((2 * one + 2 * (one + two) / 2) / 4)
    means.add(4, 8, three)
    assert means.take(4, 8) == pytest.approx((2 * (two + three) / 2 + 2 * three) / 4)
    assert means.take(8, 10) is None


def test_subcategories_keep_their_shares_of_classes_whose_scores_are_others() -> None:
    found = np.random.default_rng(0).dirichlet(np.ones(46))
    found[places_of_classes()["flat"]] = 0
    scores = np.array([0.5, 0.3, 0.15, 0.05])
    given = in_step(found, scores)
    for number, (name, places) in enumerate(places_of_classes().items()):
        if name == "flat":
            assert (given[places] == 0).all()
            continue
        assert given[places].sum() == pytest.approx(scores[number])
        np.testing.assert_allclose(given[places] / given[places].sum(), found[places] / found[places].sum())
