"""Every ensemble of a real server against ONNX Runtime and NumPy in this process: two members that see other sizes.

One of them tells subcategories.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from reelkind.client import Client, Prediction
from reelkind.core import specs
from reelkind.core.bundle import Bundle
from reelkind.core.specs import FP32_TOLERANCE, MAX_BATCH
from reelkind.core.taxonomy.classes import places_of_classes, subcategory_names
from reelkind.export.errors import ParityError
from reelkind.export.onnx_files import export_average, export_bundle
from reelkind.export.parity.deployment_parity import EnsembleReport, compare, table
from reelkind.export.parity.triton_rung import TritonModels
from reelkind.export.pipelines.clips import synthetic_clips
from reelkind.export.pipelines.steps import Tensors
from reelkind.export.untrained import write_untrained_bundle
from reelkind.serving.install.runtime import Runtime
from reelkind.serving.server import TritonServer

pytestmark = pytest.mark.triton

LARGEST_PX = 48
LEARNT = ("anime_mecha", "cg3d_feature", "moba", "fps_scifi", "racing_driving_sim", "pets")  # nothing of flat
CLIPS = {count: list(synthetic_clips(LARGEST_PX, (count,)))[:3] for count in (1, 7)}


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    folder = tmp_path_factory.mktemp("bundles")
    made = [
        write_untrained_bundle(
            *(name, "mobilenet_v2", folder / name, seed),
            frame_size_px=size,
            width=width,
            num_layers=1,
            subcategories_learnt=learnt,
        )
        for seed, (name, size, width, learnt) in enumerate((("small", 32, 16, LEARNT), ("large", LARGEST_PX, 8, None)))
    ]
    for bundle in made:
        export_bundle(bundle)
    export_average(made, weights=[1, 3])
    return made


@pytest.fixture(scope="module")
def server(triton_runtime: Runtime, members: list[Bundle]) -> Iterator[TritonServer]:
    from reelkind.deployment.embedded import embedded_server

    with embedded_server([bundle.path() for bundle in members]) as server:
        yield server


@pytest.fixture(scope="module")
def models(server: TritonServer) -> Iterator[TritonModels]:
    models = TritonModels(server.url)
    yield models
    models.close()


def test_every_ensemble_answers_what_its_graphs_and_numpy_give(members: list[Bundle], models: TritonModels) -> None:
    reports = compare(members, models.infer, CLIPS, batches=(1, 3))
    assert len(reports) == 4 * 7  # default, small, large, both
    for report in reports:
        views = 3 if "classify_features" in report.name else 1
        assert (report.passed, report.num_videos) == (True, 12 * views), table([report])
        assert max(report.max_abs_attention, report.max_abs_embedding) <= 1e-4


def test_attention_of_every_kind_sums_to_one_and_members_count_as_told(
    members: list[Bundle], models: TritonModels
) -> None:
    frames = CLIPS[7][0].frames[None]
    alone = {bundle.name: models.infer(f"classify_{bundle.name}_tta_fast", {"frames": frames}) for bundle in members}
    both = models.infer("classify_ensemble_tta_fast", {"frames": frames})
    expected = 0.25 * alone["small"]["probabilities"] + 0.75 * alone["large"]["probabilities"]
    np.testing.assert_allclose(both["probabilities"], expected, atol=1e-5)
    np.testing.assert_allclose(both["attention"].sum(axis=-1), 1, atol=1e-5)
    expected = 0.25 * alone["small"]["frame_probabilities"] + 0.75 * alone["large"]["frame_probabilities"]
    np.testing.assert_allclose(both["frame_probabilities"], expected, atol=1e-5)
    np.testing.assert_allclose(both["frame_probabilities"].sum(axis=-1), 1, atol=1e-5)
    np.testing.assert_array_equal(both["embedding"][:, :8], alone["large"]["embedding"])  # in the order of names


def test_subcategories_are_told_where_every_member_has_them(server: TritonServer, models: TritonModels) -> None:
    frames = CLIPS[7][1].frames[None]
    for tta in specs.TTA:
        answer = models.infer(specs.classify_name("small", tta), {"frames": frames})
        found = answer["subcategories"][0]
        for number, places in enumerate(places_of_classes().values()):
            np.testing.assert_allclose(found[places].sum(), answer["probabilities"][0, number], atol=1e-6)
        named = [name for name, share in zip(subcategory_names(), found, strict=True) if share > 0]
        assert set(LEARNT[:5]) < set(named) <= {*LEARNT, *subcategory_names()[places_of_classes()["flat"]]}
        assert np.ptp(found[places_of_classes()["flat"]]) < 1e-7
    assert "subcategories" not in models.infer("classify_ensemble", {"frames": frames})
    assert "subcategories" not in models.infer("classify_large", {"frames": frames})
    for url in (server.url, server.http_url):
        with Client(url, timeout_s=120) as client:
            told = {member: client.classify_frames(frames[0], member=member) for member in ("small", "ensemble")}
        assert isinstance(told["small"], Prediction)
        assert isinstance(told["ensemble"], Prediction)
        assert told["ensemble"].subcategories is None
        assert told["small"].model.subcategories_learnt == tuple(sorted(LEARNT, key=subcategory_names().index))
        inside = subcategory_names()[places_of_classes()[str(told["small"].label)]]
        assert told["small"].subcategory in {*LEARNT} & {*inside} or told["small"].label == "flat"


def test_subcategories_that_differ_are_found(members: list[Bundle], models: TritonModels) -> None:
    def ask(name: str, feeds: Mapping[str, np.ndarray]) -> Tensors:
        answer = models.infer(name, feeds)
        if name == "classify_small":
            answer["subcategories"] = answer["subcategories"][:, ::-1]
        if name == "classify_small_tta":
            del answer["subcategories"]
        return answer

    reports = compare(members, ask, {1: CLIPS[1][:1]})
    assert [report.name for report in reports if not report.passed] == ["classify_small_tta", "classify_small"][::-1]


def test_an_ensemble_that_answers_otherwise_is_found(members: list[Bundle], models: TritonModels) -> None:
    def ask(name: str, feeds: Mapping[str, np.ndarray]) -> Tensors:
        answer = models.infer(name, feeds)
        if name == "classify_large_tta":
            answer["probabilities"] = answer["probabilities"] + np.float32(1e-3)
        return answer

    reports = compare(members, ask, {1: CLIPS[1][:1]})
    assert [report.name for report in reports if not report.passed] == ["classify_large_tta"]
    assert "FAIL on synthetic:noise at B=1 T=1 V=4" in table(reports)


@pytest.mark.parametrize("given", [[0.6, 0.4], [0.6, 0.4, 0.0], [float("nan"), 0.6]], ids=["label", "shape", "nan"])
def test_answers_that_are_none_fail(given: list[float]) -> None:
    report = EnsembleReport("classify", FP32_TOLERANCE)
    report.add("here", {"probabilities": np.array([[0.4, 0.6]])}, {"probabilities": np.array([given])})
    assert not report.passed


def test_too_few_clips_for_a_request_are_said(members: list[Bundle]) -> None:
    with pytest.raises(ParityError, match=r"3 clips are too few for 4 videos in a request: name more --clips"):
        compare(members, lambda name, feeds: {}, CLIPS, batches=(MAX_BATCH,))


def test_other_weights_are_refused(members: list[Bundle], models: TritonModels) -> None:
    with pytest.raises(ParityError, match=r"serves weights .*, the bundle here has"):
        models.require_weights("classify_small", [members[1]])


def test_the_command_asks_for_a_server(members: list[Bundle], capsys: pytest.CaptureFixture[str]) -> None:
    from reelkind.cli.main import main

    assert main(["export", "parity", "--every-ensemble", "--bundle", str(members[0].path())]) == 2
    assert "--every-ensemble needs a server: add --embedded or --url" in capsys.readouterr().err


def test_the_command_compares_a_running_server(
    members: list[Bundle], server: TritonServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from reelkind.cli.main import main

    options = [option for bundle in members for option in ("--bundle", str(bundle.path()))]
    out = tmp_path / "parity.json"
    clips = ["--clips", str(Path(__file__).parents[2] / "samples" / "flat_slides.mp4"), "--frames", "2"]
    command = ["export", "parity", "--every-ensemble", "--url", server.url, *options, *clips, "--json", str(out)]
    assert main(command) == 0
    assert capsys.readouterr().out.count("  pass") == 28
    assert '"passed": true' in out.read_text()
