"""Tensors to the JSON and bytes of KServe's binary extension, and back. Pure.

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_binary_data.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from tritonclient.utils import np_to_triton_dtype, triton_to_np_dtype

from .transport import Array, offsets


def describe(inputs: Mapping[str, Array], region: str | None) -> list[dict[str, Any]]:
    """JSON of tensors that follow it as bytes, or lie in shared memory."""
    starts, _ = offsets(inputs)
    described = []
    for name, array in inputs.items():
        if region is None:
            parameters: dict[str, Any] = {"binary_data_size": array.nbytes}
        else:
            parameters = {
                "shared_memory_region": region,
                "shared_memory_offset": starts[name],
                "shared_memory_byte_size": array.nbytes,
            }
        described.append(
            {
                "name": name,
                "shape": list(array.shape),
                "datatype": np_to_triton_dtype(array.dtype),
                "parameters": parameters,
            }
        )
    return described


def read_tensors(described: Sequence[Mapping[str, Any]], data: bytes) -> dict[str, Array]:
    """Tensors of an answer.

    Args:
        described: JSON of each.
        data: their bytes, in the same order.

    Raises:
        KeyError, ValueError, TypeError, AttributeError: if the parts do not fit each other.
    """
    found, start = {}, 0
    for output in described:
        dtype, shape = np.dtype(triton_to_np_dtype(output["datatype"])), output["shape"]
        if "data" in output:  # a server without the binary extension
            found[output["name"]] = np.asarray(output["data"], dtype).reshape(shape)
            continue
        num_bytes = output["parameters"]["binary_data_size"]
        if num_bytes != prod(shape) * dtype.itemsize:
            raise ValueError(f"{num_bytes} bytes for {dtype}{shape}")
        found[output["name"]] = np.frombuffer(data, dtype, prod(shape), start).reshape(shape)
        start += num_bytes
    return found
