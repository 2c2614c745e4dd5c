"""core.tensors: the contract accepts what it says and names what it refuses."""

import numpy as np
import pytest
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import np_to_triton_dtype, triton_to_np_dtype

from reelkind.core import tensors
from reelkind.core.tensors import TensorSpec

EVERY_SPEC = [
    tensors.FRAMES,
    tensors.LOGITS,
    tensors.VIEW_ATTENTION,
    tensors.PROBABILITIES,
    tensors.ATTENTION,
    tensors.ANY_FEATURES,
    tensors.PASSES,
    tensors.PASS_ATTENTION,
    tensors.FRAME_ATTENTION,
    tensors.views(224),
    tensors.features(1280),
    tensors.view_embedding(512),
    tensors.embedding(1024),
]


@pytest.mark.parametrize("spec", EVERY_SPEC, ids=lambda spec: spec.name)
def test_types_are_those_of_triton(spec: TensorSpec) -> None:
    assert np_to_triton_dtype(spec.dtype) == spec.wire_type
    assert triton_to_np_dtype(spec.wire_type) == spec.dtype
    assert spec.triton_type in model_config_pb2.DataType.keys()  # noqa: SIM118 (a protobuf enum is no dict)


def test_free_axes_become_minus_one_and_the_batch_is_left_out() -> None:
    assert tensors.FRAMES.triton_dims == [-1, -1, -1, 3]
    assert tensors.views(224).triton_dims == [-1, -1, 3, 224, 224]
    assert tensors.PROBABILITIES.triton_dims == [4]


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        pytest.param((1, 16, 224, 224, 1), np.uint8, id="fixed-axis-differs"),
        pytest.param((16, 224, 224, 3), np.uint8, id="axis-missing"),
        pytest.param((1, 16, 224, 224, 3), np.float32, id="dtype-differs"),
        pytest.param((1, 0, 224, 224, 3), np.uint8, id="axis-empty"),
    ],
)
def test_other_arrays_are_refused_by_name(shape: tuple[int, ...], dtype: type) -> None:
    with pytest.raises(ValueError, match=r"tensor 'frames' is .* required is uint8\[B, T, H, W, 3\]"):
        tensors.FRAMES.check(np.zeros(shape, dtype))


def test_equal_letters_need_equal_lengths() -> None:
    square = TensorSpec("square", np.dtype(np.uint8), ("B", "T", "T"))
    square.check(np.zeros((1, 2, 2), np.uint8))
    with pytest.raises(ValueError, match="square"):
        square.check(np.zeros((1, 2, 3), np.uint8))


def test_nonsense_specs_are_refused() -> None:
    with pytest.raises(ValueError, match="axis 0 must be the batch axis"):
        TensorSpec("x", np.dtype(np.uint8), ("T", 3))
    with pytest.raises(ValueError, match="unknown free axes"):
        TensorSpec("x", np.dtype(np.uint8), ("B", "Q"))


def test_a_renamed_tensor_keeps_its_type_and_shape() -> None:
    assert tensors.LOGITS.named("logits_lite") == TensorSpec("logits_lite", tensors.LOGITS.dtype, tensors.LOGITS.shape)
