"""An ensemble executed in this process, step by step, whoever computes the steps: NumPy in, every tensor out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from reelkind.core.specs import Ensemble

Tensors = dict[str, np.ndarray]
Stage = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]
"""Inputs of a graph in its order -> its outputs in its order."""


def run_steps(ensemble: Ensemble, stages: Mapping[str, Stage], frames: np.ndarray) -> Tensors:
    """Run the ensemble as the server wires it.

    Args:
        ensemble: the wiring.
        stages: graph name -> what computes it.
        frames: uint8 RGB [B, T, H, W, 3].

    Returns:
        Every tensor of the ensemble under its name in the ensemble: the answer and what led to it.

    Raises:
        ValueError: if ``frames`` do not fit the contract.
    """
    (spec,) = ensemble.inputs
    spec.check(frames)
    tensors: Tensors = {spec.name: frames}
    for step in ensemble.steps:
        inputs = [tensors[step.input_map[port.name]] for port in step.graph.inputs]
        outputs = stages[step.graph.name](inputs)
        for port, array in zip(step.graph.outputs, outputs, strict=True):
            tensors[step.output_map[port.name]] = array
    return tensors
