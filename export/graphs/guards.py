"""Nodes by which a graph itself refuses what no answer can be made of, whoever executes it.

ONNX Runtime's LSTM ends the process on a batch of 0, means over no frames are numbers all the same, and tensors of
different lengths are broadcast. Where our runner executes a graph, it looks before; Triton's own backends do not.
A refusal is a Gather out of bounds, named for the rule, which ONNX Runtime reports as INVALID_ARGUMENT with that name;
all is shape arithmetic, which TensorRT computes on the host.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

ZERO, ONE = "guard_zero", "guard_one"


class Guard:
    """Nodes and constants to be put before those of a graph."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants = [
            numpy_helper.from_array(np.array([0], np.int64), ZERO),
            numpy_helper.from_array(np.array([1], np.int64), ONE),
        ]

    def not_empty(self, source: str) -> str:
        """int64 [rank]: the shape of a tensor; the run fails if an axis of it is 0."""
        shape = self._add("Shape", source, output=f"{source}_shape")
        filled = self._add("Min", shape, ONE, output=f"{source}_filled")  # 1, or 0 of an empty axis
        empty = self._add("Sub", ONE, filled, output=f"{source}_empty")
        return self._zeros_added(source, shape, empty, f"no_axis_of_{source}_may_be_empty")

    def alike(self, source: str, other: str) -> str:
        """int64 [rank]: the shape of a tensor; the run fails unless another one of its rank has the same."""
        shape = self._add("Shape", source, output=f"{source}_shape")
        of_other = self._add("Shape", other, output=f"{source}_expected")
        apart = self._add("Abs", self._add("Sub", shape, of_other, output=f"{source}_more"), output=f"{source}_apart")
        differs = self._add("Min", apart, ONE, output=f"{source}_differs")
        return self._zeros_added(source, shape, differs, f"{source}_must_be_as_long_as_{other}")

    def reshaped(self, source: str, shape: str) -> str:
        """The tensor itself, to be had only if its shape was found right."""
        return self._add("Reshape", source, shape, output=f"{source}_guarded")

    def _zeros_added(self, source: str, shape: str, places: str, rule: str) -> str:
        zeros = self._add("Gather", ZERO, places, output=f"{source}_zeros", name=rule)  # there is a place 0, but no 1
        return self._add("Add", shape, zeros, output=f"{source}_checked")

    def _add(self, op: str, *inputs: str, output: str, name: str | None = None) -> str:
        self.nodes.append(helper.make_node(op, list(inputs), [output], name))
        return output


def refusing_empty(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, changed in place so that a run fails if an axis of its only input is 0."""
    (source,) = (value.name for value in model.graph.input)
    guard = Guard()
    guarded = guard.reshaped(source, guard.not_empty(source))
    for node in model.graph.node:
        node.input[:] = [guarded if name == source else name for name in node.input]
    nodes = [*guard.nodes, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(guard.constants)
    onnx.checker.check_model(model, full_check=True)
    return model
