"""A server as pytriton's documentation writes one: a function that runs ONNX Runtime sessions, bound to a model.

Runs in an environment of its own, where reelkind is not installed: ``python pytriton_peer.py TASK``. The task is JSON:
the steps of an ensemble, each with its file and the names of its tensors. Ends with its standard input.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Any

READY = "ready"  # followed by the gRPC port, on stdout


def main() -> None:
    """Serve until standard input ends."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    os.environ["PYTRITON_NO_TENSORSTORE"] = (
        "1"  # its store starts processes, which its stub and this Python disagree on
    )
    import numpy as np
    import onnxruntime
    from pytriton.decorators import batch
    from pytriton.model_config import ModelConfig, Tensor
    from pytriton.triton import Triton, TritonConfig

    task = json.loads(sys.argv[1])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = task["threads"]
    steps = [
        (onnxruntime.InferenceSession(step["file"], options, providers=["CPUExecutionProvider"]), step)
        for step in task["steps"]
    ]

    @batch  # type: ignore[untyped-decorator]
    def classify(frames: Any) -> dict[str, Any]:
        tensors = {"frames": frames}
        for session, step in steps:
            feeds = {port: tensors[tensor] for port, tensor in step["inputs"].items()}
            names = list(step["outputs"])
            for port, array in zip(names, session.run(names, feeds), strict=True):
                tensors[step["outputs"][port]] = array
        return {"probabilities": tensors["probabilities"]}

    grpc_port, http_port, metrics_port = _free_ports(3)
    config = TritonConfig(grpc_port=grpc_port, http_port=http_port, metrics_port=metrics_port)
    _, *shape = task["frames"]
    with Triton(config=config) as triton:
        triton.bind(
            model_name="classify",
            infer_func=[classify] * task["instances"],
            inputs=[Tensor(name="frames", dtype=np.uint8, shape=tuple(shape))],
            outputs=[Tensor(name="probabilities", dtype=np.float32, shape=(-1,))],
            config=ModelConfig(max_batch_size=4),
        )
        triton.run()
        print(READY, grpc_port, flush=True)
        sys.stdin.read()


def _free_ports(number: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


if __name__ == "__main__":
    main()
