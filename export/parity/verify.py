"""An exported graph against what it was made from, on random inputs of every shape that matters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from reelkind.core.specs import TEMPORAL_VIEWS, Graph
from reelkind.core.tensors import TensorSpec

from ..errors import ParityError
from ..pipelines.clips import synthetic_clips
from ..pipelines.reference import onnx_stage
from ..pipelines.steps import Stage

# Axis lengths to try: one frame, a prime, the trained number and twice it; several videos and views once.
SHAPES: tuple[dict[str, int], ...] = (
    {"B": 1, "V": 1, "T": 1},
    {"B": 2, "V": 2, "T": 7},
    {"B": 1, "V": 1, "T": 16},
    {"B": 1, "V": 1, "T": 32},
)
TOLERANCE = 1e-4  # largest difference, relative to the largest value of the tensor where that exceeds 1
# A deep network may round by more than that itself (an untrained ResNet-101: 2e-4 between FP32 and FP64). Then two
# FP32 runs may differ by this many times what the reference differs from its own FP64 run.
ROUNDING_FACTOR = 4
# Relative error of features (root mean square) that integer products may cost; a picture each of several kinds.
INTEGER_TOLERANCE = 0.25
_ANY_DIM = 5  # D of graphs that take any

_Given = TypeVar("_Given")
_Result = TypeVar("_Result")


def verify(
    graph: Graph,
    file: bytes,
    reference: Stage,
    frame_size_px: int,
    *,
    exact: Callable[[], Stage] | None = None,
    levels: int = 0,
    seed: int = 0,
) -> float:
    """Compare a graph with its reference on random inputs.

    Args:
        graph: its contract.
        file: the ONNX file.
        reference: what it must compute.
        frame_size_px: H and W of frames, so that preprocessing has nothing to scale.
        exact: makes the reference in FP64; asked for only if ``TOLERANCE`` is exceeded.
        levels: how far bytes may differ; on noise, a picture half a pixel off differs by a hundred.
        seed: of the inputs.

    Returns:
        The largest difference found, relative as in ``TOLERANCE``.

    Raises:
        ParityError: naming graph, output, shape, difference and tolerance.
    """
    rng, worst = np.random.default_rng(seed), 0.0
    stage = _or_parity_error(graph.name, onnx_stage, file)
    for shape in SHAPES:
        lengths = shape | {"P": shape["V"] * len(TEMPORAL_VIEWS), "H": frame_size_px, "W": frame_size_px, "D": _ANY_DIM}
        inputs = [_random(spec, lengths, rng) for spec in graph.inputs]
        place = f"B={shape['B']} V={shape['V']} T={shape['T']}"
        outputs = _or_parity_error(f"{graph.name} at {place}", stage, inputs)
        expected = reference(inputs)
        rounded: Sequence[np.ndarray] | None = None
        for number, spec in enumerate(graph.outputs):
            where = f"{graph.name}: {spec.name} at {place}"
            error = _difference(where, expected[number], outputs[number])
            allowed = float(levels) if spec.dtype == np.uint8 else TOLERANCE
            if not error <= allowed and exact is not None:  # "not <=" is also true for NaN
                rounded = exact()(inputs) if rounded is None else rounded
                rounding = _difference(where, rounded[number].astype(spec.dtype), expected[number])
                allowed = max(allowed, ROUNDING_FACTOR * rounding)
            if not error <= allowed:
                raise ParityError(
                    f"{where} differs by {error:.1e} from what it was made from, allowed is {allowed:.0e}"
                )
            worst = max(worst, error)
    return worst


def verify_integers(graph: Graph, file: bytes, reference: Stage, frame_size_px: int) -> float:
    """Compare a backbone that multiplies integers with its reference, on made pictures, one at a time.

    Args:
        graph: its contract.
        file: the ONNX file, weights inside.
        reference: what it stands for, in FP32 with the same weights.
        frame_size_px: S.

    Returns:
        The largest error found, relative as in ``INTEGER_TOLERANCE``.

    Raises:
        ParityError: naming graph, picture, error and tolerance.
    """
    stage, worst = _or_parity_error(graph.name, onnx_stage, file), 0.0
    for clip in synthetic_clips(frame_size_px, (1,)):
        views = np.ascontiguousarray(clip.frames.transpose(0, 3, 1, 2))[None, None]
        (given,), (expected,) = _or_parity_error(graph.name, stage, [views]), reference([views])
        error = float(np.sqrt(np.mean((given - expected) ** 2) / np.mean(expected**2)))
        if not error <= INTEGER_TOLERANCE:
            raise ParityError(
                f"{graph.name} with integer products differs by {error:.2g} from FP32 on {clip.name}, allowed is "
                f"{INTEGER_TOLERANCE:g}"
            )
        worst = max(worst, error)
    return worst


def _or_parity_error(what: str, call: Callable[[_Given], _Result], given: _Given) -> _Result:
    try:
        return call(given)
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        raise ParityError(f"{what}: ONNX Runtime refuses it: {error}") from error


def _random(spec: TensorSpec, lengths: dict[str, int], rng: np.random.Generator) -> np.ndarray:
    shape: Sequence[int] = [axis if isinstance(axis, int) else lengths[axis] for axis in spec.shape]
    if spec.dtype == np.uint8:
        return rng.integers(0, 256, shape, dtype=np.uint8)
    return rng.standard_normal(shape).astype(spec.dtype)


def _difference(where: str, expected: np.ndarray, given: np.ndarray) -> float:
    if given.shape != expected.shape or given.dtype != expected.dtype:
        raise ParityError(
            f"{where} is {given.dtype}{list(given.shape)}, it must be {expected.dtype}{list(expected.shape)}"
        )
    scale = max(1.0, float(np.abs(expected.astype(np.float64)).max()))
    if expected.dtype == np.uint8:
        scale = 1.0
    return float(np.abs(given.astype(np.float64) - expected).max()) / scale
