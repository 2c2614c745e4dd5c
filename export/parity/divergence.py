"""A rung that fails, to the stage and the layer where it begins to differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx

from reelkind.core.ensembles import Ensemble
from reelkind.core.specs import Graph

from ..pipelines.intermediates import first_divergence, relative_error, runner, with_outputs
from ..pipelines.steps import Tensors

Layers = Callable[[Graph, Sequence[np.ndarray]], dict[str, np.ndarray]]
"""A graph and its inputs -> its intermediate tensors by the names they have in the ONNX graph."""


def locate(
    ensemble: Ensemble,
    expected: Tensors,
    given: Tensors,
    allowed: float,
    *,
    model_of: Callable[[Graph], onnx.ModelProto],
    expected_layers: Layers | None = None,
    given_layers: Layers | None = None,
) -> str:
    """Where two ways of computing an ensemble part, in words.

    Args:
        ensemble: its wiring.
        expected: tensors of the reference by their names in the ensemble.
        given: the same of the rung, as many as it shows.
        allowed: relative error above which a tensor is said to differ.
        model_of: the ONNX graph of a stage, for the order of its tensors.
        expected_layers: looks inside a stage of the reference.
        given_layers: looks inside a stage of the rung.
    """
    for step in ensemble.steps:
        errors = {
            name: relative_error(expected[name], given[name]) for name in step.output_map.values() if name in given
        }
        name = next((name for name, error in errors.items() if not error <= allowed), None)
        if name is None:
            continue
        where = f"{step.graph.name}: {name} has a relative error of {errors[name]:.1e}"
        if not (step.graph.is_network and expected_layers and given_layers):
            return where
        inputs = [expected[step.input_map[spec.name]] for spec in step.graph.inputs]
        sides = [layers(step.graph, inputs) for layers in (expected_layers, given_layers)]
        found = first_divergence(model_of(step.graph), sides[0], sides[1], allowed)
        return f"{where}; first inside: {found or 'nothing, when it gets the inputs of the reference'}"
    return f"no stage that it shows differs by more than {allowed:.0e}, only the answers do"


def onnx_layers(model_of: Callable[[Graph], onnx.ModelProto]) -> Layers:
    """Looks inside ONNX graphs with ONNX Runtime on the CPU."""

    def layers(graph: Graph, inputs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        return runner(with_outputs(model_of(graph)))(inputs)

    return layers
