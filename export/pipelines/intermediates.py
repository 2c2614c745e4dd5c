"""What happens inside a graph: its intermediate tensors as outputs, and where two graphs begin to differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from ..errors import ExportError
from ..graphs.constants import float_types
from .reference import onnx_session

HALF_MAX = float(np.finfo(np.float16).max)


def with_outputs(model: onnx.ModelProto, names: Iterable[str] | None = None) -> onnx.ModelProto:
    """A copy that also gives these activations (all of floating point by default), in the order they are made."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    types = float_types(model)
    wanted = set(types if names is None else names)
    present = {value.name for value in copy.graph.output}
    for node in copy.graph.node:
        for name in node.output:
            if name in types and name in wanted - present:
                copy.graph.output.append(onnx.helper.make_tensor_value_info(name, types[name], None))
    return copy


def runner(model: onnx.ModelProto) -> Callable[[Sequence[np.ndarray]], dict[str, np.ndarray]]:
    """What runs a graph on the CPU as it stands, nothing fused or folded: inputs in order to every output by name."""
    session = onnx_session(model.SerializeToString(), num_threads=1, optimised=False)
    given, made = ([port.name for port in ports] for ports in (session.get_inputs(), session.get_outputs()))

    def run(inputs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(made, session.run(None, dict(zip(given, inputs, strict=True))), strict=True))

    return run


@dataclass(frozen=True)
class Divergence:
    """The first tensor of a graph that differs by more than is allowed.

    Attributes:
        tensor: its name.
        operator: what makes it.
        error: root mean square of the difference over that of the expected values; infinite for NaN and infinities.
        error_before: largest error among the tensors made earlier.
    """

    tensor: str
    operator: str
    error: float
    error_before: float

    def __str__(self) -> str:
        return f"{self.operator} -> {self.tensor}: relative error {self.error:.1e}, before it {self.error_before:.1e}"


def first_divergence(
    model: onnx.ModelProto, expected: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray], allowed: float
) -> Divergence | None:
    """The first tensor, in the order of the graph, of those both sides have, whose error is above ``allowed``.

    Raises:
        ExportError: if the sides have no tensor in common.
    """
    worst, compared = 0.0, 0
    for node in model.graph.node:
        for name in node.output:
            if name not in expected or name not in given:
                continue
            error = relative_error(expected[name], given[name])
            if not error <= allowed:
                return Divergence(name, node.op_type, error, worst)
            worst, compared = max(worst, error), compared + 1
    if not compared:
        raise ExportError(f"no intermediate tensor of {model.graph.name} is known on both sides: nothing was compared")
    return None


def relative_error(expected: np.ndarray, given: np.ndarray) -> float:
    """Root mean square of the difference over that of the expected values; infinite where that is no number."""
    if expected.shape != given.shape:
        return float("inf")
    with np.errstate(over="ignore", invalid="ignore"):
        wide = expected.astype(np.float64)
        difference = float(np.sqrt(np.mean((given.astype(np.float64) - wide) ** 2)))
        size = float(np.sqrt(np.mean(wide**2)))
    if not np.isfinite(difference):
        return float("inf")
    return difference / size if size > 0 else difference
