"""How much arithmetic a graph is: the yardstick for what a card could do at best."""

from __future__ import annotations

import math

import numpy as np
import onnx

from ..graphs.constants import with_plain_weights
from .intermediates import runner, with_outputs


def operations(model: onnx.ModelProto, array: np.ndarray) -> int:
    """Multiplications and additions of convolutions, matrix products and LSTMs for this input; the rest is little."""
    plain = with_plain_weights(model)
    made = runner(with_outputs(plain))([array])
    shapes = {name: values.shape for name, values in made.items()}
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in plain.graph.initializer}
    shapes |= {value.name: array.shape for value in plain.graph.input}
    total = 0
    for node in plain.graph.node:
        if node.op_type == "Conv":
            weight = shapes[node.input[1]]  # [out, in / groups, k, k]
            total += math.prod(shapes[node.output[0]]) * math.prod(weight[1:])
        elif node.op_type in ("MatMul", "Gemm"):
            rows = shapes[node.input[0]]
            total += math.prod(shapes[node.output[0]]) * rows[-1]
        elif node.op_type == "LSTM":
            num_frames, num_clips, _ = shapes[node.input[0]]
            total += num_frames * num_clips * sum(math.prod(shapes[name]) for name in node.input[1:3])
    return 2 * total
