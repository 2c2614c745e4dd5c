"""Preprocessing against Pillow, averaging against NumPy."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from PIL import Image

from reelkind.core.bundle import BackboneInfo, Bundle, HeadInfo
from reelkind.core.specs import VIEWS, average_graph, preprocess_graph
from reelkind.core.taxonomy.classes import NUM_SUBCATEGORIES, subcategories
from reelkind.export.errors import ExportError
from reelkind.export.graphs.graphs import (
    build_average,
    build_preprocess,
    build_temporal_attention,
    build_temporal_views,
)
from reelkind.export.pipelines.onnx_runtime import onnxruntime
from reelkind.export.pipelines.reference import onnx_stage

InvalidArgument = onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument
SIZE_PX = 48
RNG = np.random.default_rng(0)


def preprocess(frames: np.ndarray, views: str = "single") -> np.ndarray:
    (output,) = onnx_stage(build_preprocess(SIZE_PX, views).SerializeToString())([frames])
    return output


def noise(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def bundle(name: str, width: int, temperature: float = 1.0) -> Bundle:
    return Bundle(name, BackboneInfo("any", 8, SIZE_PX), HeadInfo(8, width), 16, temperature)


@pytest.mark.parametrize(
    ("height", "width"),
    [(96, 96), (270, 480), (480, 270), (48, 200), (30, 20), (49, 47), (1, 1)],
    ids=lambda length: str(length),
)
def test_scaling_is_pillows_antialiased_bilinear_filter(height: int, width: int) -> None:
    frames = noise(2, 3, height, width, 3)
    given = preprocess(frames)
    assert given.shape == (2, 1, 3, 3, SIZE_PX, SIZE_PX)
    for video in range(2):
        for time in range(3):
            picture = Image.fromarray(frames[video, time]).resize((SIZE_PX, SIZE_PX), Image.Resampling.BILINEAR)
            difference = given[video, 0, time].astype(int) - np.asarray(picture).transpose(2, 0, 1)
            assert np.abs(difference).max() <= 1  # both round between the two passes, not always alike


def test_frames_of_the_right_size_pass_unchanged() -> None:
    frames = noise(2, 5, SIZE_PX, SIZE_PX, 3)
    np.testing.assert_array_equal(preprocess(frames)[:, 0], frames.transpose(0, 1, 4, 2, 3))


def test_views_are_the_frame_its_middle_and_both_mirrored() -> None:
    assert VIEWS["tta"] == ("identity", "flip", "narrow", "narrow_flip")
    frames = noise(2, 3, 96, 120, 3)
    views = preprocess(frames, "tta")
    assert views.shape[:3] == (2, 4, 3)
    np.testing.assert_array_equal(views[:, 0], preprocess(frames)[:, 0])
    np.testing.assert_array_equal(views[:, 1::2], views[:, ::2, ..., ::-1])
    scaled = views[1, 0, 2].transpose(1, 2, 0)
    box = (SIZE_PX // 8, 0, SIZE_PX - SIZE_PX // 8, SIZE_PX)
    narrow = Image.fromarray(scaled).crop(box).resize((SIZE_PX, SIZE_PX), Image.Resampling.BILINEAR)
    assert np.abs(views[1, 2, 2].astype(int) - np.asarray(narrow).transpose(2, 0, 1)).max() <= 1


@pytest.mark.parametrize("shape", [(0, 1, 4, 4, 3), (1, 0, 4, 4, 3), (1, 1, 0, 4, 3), (1, 1, 4, 0, 3)], ids=str)
def test_an_empty_axis_of_frames_is_refused_by_name(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgument, match="no_axis_of_frames_may_be_empty"):
        preprocess(np.zeros(shape, np.uint8))


def temporal(model: onnx.ModelProto, array: np.ndarray) -> np.ndarray:
    (output,) = onnx_stage(model.SerializeToString())([array])
    return output


def put_back(weights: np.ndarray, logits: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    if logits is None:
        logits = np.zeros((*weights.shape, 4), np.float32)
    attention, restored = onnx_stage(build_temporal_attention().SerializeToString())([weights, logits])
    return attention, restored


@pytest.mark.parametrize(
    ("num_frames", "orders"),
    [
        (1, [[0], [0], [0]]),
        (2, [[0, 1], [0, 0], [1, 1]]),
        (5, [[0, 1, 2, 3, 4], [0, 0, 2, 2, 4], [1, 1, 3, 3, 4]]),
        (6, [[0, 1, 2, 3, 4, 5], [0, 0, 2, 2, 4, 4], [1, 1, 3, 3, 5, 5]]),
    ],
)
def test_temporal_views_are_all_frames_the_even_and_the_odd(num_frames: int, orders: list[list[int]]) -> None:
    features = RNG.standard_normal((2, 3, num_frames, 5)).astype(np.float32)
    passes = temporal(build_temporal_views(), features)
    assert passes.shape == (2, 9, num_frames, 5)
    for view in range(3):
        for place, order in enumerate(orders):
            np.testing.assert_array_equal(passes[:, 3 * view + place], features[:, view, order])


def test_attention_goes_back_to_the_frames_that_were_looked_at() -> None:
    weights = np.array([[[0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4]]], np.float32)
    expected = [[0.1, 0.2, 0.3, 0.4], [0.3, 0, 0.7, 0], [0, 0.3, 0, 0.7]]
    np.testing.assert_allclose(put_back(weights)[0][0], expected, atol=1e-6)


@pytest.mark.parametrize("num_frames", [1, 2, 7, 300])
def test_attention_still_sums_to_one_at_any_number_of_frames(num_frames: int) -> None:
    weights = RNG.random((2, 6, num_frames)).astype(np.float32)
    weights /= weights.sum(-1, keepdims=True)
    given, _ = put_back(weights)
    assert given.shape == weights.shape
    np.testing.assert_allclose(given.sum(-1), 1, atol=1e-5)


def test_logits_go_back_to_the_frames_and_passes_without_a_frame_have_no_say() -> None:
    places = np.array([[[1, 2, 3, 4, 5], [10, 20, 30, 40, 50], [100, 200, 300, 400, 500]]], np.float32)
    logits = places[..., None] * np.array([1, -1, 0, 2], np.float32)
    _, given = put_back(places / 1500, logits)
    # Orders 01234, 00224, 11334: frame 0 stands first in the first, first and second in the other; frame 4 ends all.
    expected = [(1 + 15) / 2, (2 + 150) / 2, (3 + 35) / 2, (4 + 350) / 2, (5 + 50 + 500) / 3]
    for number in range(3):
        np.testing.assert_allclose(given[0, number, :, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(given, given[..., :1] * np.array([1, -1, 0, 2]), rtol=1e-6)


@pytest.mark.parametrize("num_frames", [1, 2, 7, 300])
def test_logits_of_frames_that_are_the_same_in_every_pass_come_back_as_they_were(num_frames: int) -> None:
    of_frames = RNG.standard_normal((2, 2, num_frames, 4)).astype(np.float32)
    passes = temporal(build_temporal_views(), of_frames)  # as a head gives them that looks at each frame alone
    _, given = put_back(np.zeros(passes.shape[:3], np.float32), passes)
    np.testing.assert_allclose(given, of_frames.repeat(3, axis=1), atol=1e-5)


@pytest.mark.parametrize("views", sorted(VIEWS))
def test_graph_border_is_the_contract(views: str) -> None:
    graph = build_preprocess(SIZE_PX, views).graph
    spec = preprocess_graph(SIZE_PX, views)
    for values, tensors in ((graph.input, spec.inputs), (graph.output, spec.outputs)):
        for value, tensor in zip(values, tensors, strict=True):
            shape = tuple(axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim)
            dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            assert (value.name, dtype, shape) == (tensor.name, tensor.dtype, tensor.shape)


def head_outputs(bundles: list[Bundle], batch: int, views: int, time: int) -> list[np.ndarray]:
    lengths = {"B": batch, "V": views, "T": time}
    shapes = [[lengths.get(axis, axis) for axis in spec.shape] for spec in average_graph(bundles).inputs]
    return [RNG.standard_normal(shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("weights", [None, (3.0, 1.0)], ids=["equal", "3:1"])
def test_average_of_two_members_is_what_numpy_computes(weights: tuple[float, float] | None) -> None:
    bundles = [bundle("one", 16, temperature=1.7), bundle("two", 8, temperature=0.6)]
    inputs = head_outputs(bundles, batch=3, views=2, time=7)
    given = onnx_stage(build_average(bundles, weights).SerializeToString())(inputs)

    shares = np.array([0.5, 0.5] if weights is None else [0.75, 0.25])
    per_member = []
    per_frame = []
    for logits, frames, temperature in ((inputs[0], inputs[3], 1.7), (inputs[4], inputs[7], 0.6)):
        for array, averages in ((logits, per_member), (frames, per_frame)):
            powers = np.exp(array.astype(np.float64) / temperature)
            averages.append((powers / powers.sum(-1, keepdims=True)).mean(1))
    np.testing.assert_allclose(given[0], np.tensordot(shares, per_member, 1), atol=1e-6)
    np.testing.assert_allclose(given[1], np.tensordot(shares, [inputs[1].mean(1), inputs[5].mean(1)], 1), atol=1e-6)
    np.testing.assert_allclose(given[2], np.concatenate([inputs[2].mean(1), inputs[6].mean(1)], -1), atol=1e-6)
    np.testing.assert_allclose(given[3], np.tensordot(shares, per_frame, 1), atol=1e-6)
    assert given[3].shape == (3, 7, 4)
    for probabilities in (given[0], given[3]):
        np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-6)


@pytest.mark.parametrize("num_frames", [1, 3])
def test_members_that_saw_different_numbers_of_frames_are_not_broadcast(num_frames: int) -> None:
    members = [bundle("first", 16), bundle("second", 16)]
    run = onnx_stage(build_average(members).SerializeToString())
    lengths = {"first": {"B": 1, "V": 1, "T": 1}, "second": {"B": 1, "V": 1, "T": num_frames}}
    arrays = [
        np.zeros([axis if isinstance(axis, int) else lengths[spec.name.split("_")[-1]][axis] for axis in spec.shape])
        for spec in average_graph(members).inputs
    ]
    arrays = [array.astype(np.float32) for array in arrays]
    if num_frames == 1:
        assert len(run(arrays)) == len(average_graph(members).outputs)
    else:
        with pytest.raises(InvalidArgument, match="attention_second_must_be_as_long_as_attention_first"):
            run(arrays)


def test_huge_logits_do_not_overflow() -> None:
    members = [replace(bundle("one", 8), temperature=0.5)]
    logits, attention, embedding, frames = head_outputs(members, batch=1, views=1, time=2)
    inputs = [logits * 1e4, attention, embedding, frames * 1e4]
    given = onnx_stage(build_average(members).SerializeToString())(inputs)
    for probabilities in (given[0], given[3]):
        assert np.isfinite(probabilities).all()
        np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-6)


@pytest.mark.parametrize("weights", [(1.0,), (1.0, -1.0), (0.0, 0.0)])
def test_weights_that_fit_no_average_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(ExportError, match="2 member"):
        build_average([bundle("one", 8), bundle("two", 8)], weights)


def finer(name: str, learnt: tuple[str, ...], temperature: float = 1.0) -> Bundle:
    head = HeadInfo(8, 8, num_subcategories=NUM_SUBCATEGORIES)
    return replace(bundle(name, 8, 1.3), head=head, subcategories_learnt=learnt, subcategory_temperature=temperature)


def expected_subcategories(member: Bundle, logits: np.ndarray, finer_logits: np.ndarray) -> np.ndarray:
    """Row by row, without anything of core.taxonomy.subcategories: float64 [B, V, 46]."""
    powers = np.exp(logits.astype(np.float64) / member.temperature)
    classes = powers / powers.sum(-1, keepdims=True)
    result = np.zeros(finer_logits.shape)
    for number, class_name in enumerate(("animation", "gaming", "natural", "flat")):
        inside = [place for place, kind in enumerate(subcategories()) if kind.class_name == class_name]
        known = [place for place in inside if subcategories()[place].name in member.subcategories_learnt]
        if not known:
            result[..., inside] = classes[..., [number]] / len(inside)
            continue
        shares = np.exp(finer_logits[..., known].astype(np.float64) / member.subcategory_temperature)
        result[..., known] = shares / shares.sum(-1, keepdims=True) * classes[..., [number]]
    return result


@pytest.mark.parametrize("weights", [None, (3.0, 1.0)], ids=["equal", "3:1"])
def test_subcategories_of_a_class_sum_to_its_probability(weights: tuple[float, float] | None) -> None:
    bundles = [finer("one", ("anime_mecha", "moba", "pets", "fps_scifi"), 0.7), finer("two", ("cg3d_feature", "moba"))]
    inputs = head_outputs(bundles, batch=3, views=2, time=5)
    inputs[4][..., 0] = 3e4  # of what was not learnt
    probabilities, _, _, _, given = onnx_stage(build_average(bundles, weights).SerializeToString())(inputs)
    shares = [0.5, 0.5] if weights is None else [0.75, 0.25]
    parts = [
        expected_subcategories(member, inputs[5 * place], inputs[5 * place + 4]).mean(1)
        for place, member in enumerate(bundles)
    ]
    np.testing.assert_allclose(given, np.tensordot(shares, parts, 1), atol=1e-6)
    for number, class_name in enumerate(("animation", "gaming", "natural", "flat")):
        inside = [place for place, kind in enumerate(subcategories()) if kind.class_name == class_name]
        np.testing.assert_allclose(given[:, inside].sum(-1), probabilities[:, number], atol=1e-6)
        unknown = [place for place in inside if subcategories()[place].name not in ("moba", "fps_scifi")]
        if class_name == "gaming":
            assert (given[:, unknown] == 0).all()
    flat = [place for place, kind in enumerate(subcategories()) if kind.class_name == "flat"]
    np.testing.assert_allclose(given[:, flat], given[:, flat[:1]].repeat(len(flat), 1), atol=1e-7)
    np.testing.assert_allclose(given.sum(-1), 1, atol=1e-6)


def test_an_average_with_a_member_without_subcategories_has_none() -> None:
    mixed, alike = [finer("one", ("moba",)), bundle("two", 8)], [bundle("one", 8, 1.3), bundle("two", 8)]
    assert average_graph(mixed) == average_graph(alike)
    assert build_average(mixed) == build_average(alike)
