"""Preprocessing against Pillow, averaging against NumPy."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from PIL import Image

from reelkind.core.bundle import BackboneInfo, Bundle, HeadInfo
from reelkind.core.specs import VIEWS, average_graph, preprocess_graph
from reelkind.export.errors import ExportError
from reelkind.export.graphs import build_average, build_preprocess
from reelkind.export.reference import onnx_stage

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


def test_second_view_is_the_first_mirrored() -> None:
    assert VIEWS["tta"] == ("identity", "flip")
    frames = noise(2, 3, SIZE_PX, SIZE_PX, 3)
    both = preprocess(frames, "tta")
    assert both.shape[:3] == (2, 2, 3)
    np.testing.assert_array_equal(both[:, 0], preprocess(frames)[:, 0])
    np.testing.assert_array_equal(both[:, 1], both[:, 0, ..., ::-1])


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
    for logits, temperature in ((inputs[0], 1.7), (inputs[3], 0.6)):
        powers = np.exp(logits.astype(np.float64) / temperature)
        per_member.append((powers / powers.sum(-1, keepdims=True)).mean(1))
    np.testing.assert_allclose(given[0], np.tensordot(shares, per_member, 1), atol=1e-6)
    np.testing.assert_allclose(given[1], np.tensordot(shares, [inputs[1].mean(1), inputs[4].mean(1)], 1), atol=1e-6)
    np.testing.assert_allclose(given[2], np.concatenate([inputs[2].mean(1), inputs[5].mean(1)], -1), atol=1e-6)
    np.testing.assert_allclose(given[0].sum(-1), 1, atol=1e-6)


def test_huge_logits_do_not_overflow() -> None:
    members = [replace(bundle("one", 8), temperature=0.5)]
    logits, attention, embedding = head_outputs(members, batch=1, views=1, time=2)
    given = onnx_stage(build_average(members).SerializeToString())([logits * 1e4, attention, embedding])
    assert np.isfinite(given[0]).all()
    np.testing.assert_allclose(given[0].sum(-1), 1, atol=1e-6)


@pytest.mark.parametrize("weights", [(1.0,), (1.0, -1.0), (0.0, 0.0)])
def test_weights_that_fit_no_average_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(ExportError, match="2 members"):
        build_average([bundle("one", 8), bundle("two", 8)], weights)
