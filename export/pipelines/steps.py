"""An ensemble executed in this process, step by step, whoever computes the steps: NumPy in, every tensor out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from reelkind.core.ensembles import Ensemble

Tensors = dict[str, np.ndarray]
Stage = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]
"""Inputs of a graph in its order -> its outputs in its order."""


def run_steps(ensemble: Ensemble, stages: Mapping[str, Stage], *inputs: np.ndarray) -> Tensors:
    """Run the ensemble as the server wires it.

    Args:
        ensemble: the wiring.
        stages: graph name -> what computes it.
        inputs: of the ensemble, in its order: frames, or features of every member.

    Returns:
        Every tensor of the ensemble under its name in the ensemble: the answer and what led to it.

    Raises:
        ValueError: if an input does not fit the contract.
    """
    tensors: Tensors = {}
    for spec, array in zip(ensemble.inputs, inputs, strict=True):
        spec.check(array)
        tensors[spec.name] = array
    for step in ensemble.steps:
        outputs = stages[step.graph.name]([tensors[step.input_map[port.name]] for port in step.graph.inputs])
        for port, array in zip(step.graph.outputs, outputs, strict=True):
            if port.name in step.output_map:
                tensors[step.output_map[port.name]] = array
    return tensors
