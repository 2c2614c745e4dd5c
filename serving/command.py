"""A runtime, a repository and addresses to tritonserver's command line."""

from __future__ import annotations

import math
from pathlib import Path

from reelkind.core.files.server_keys import KEY_HEADER

from .control import RESTRICTED
from .install.runtime import Runtime
from .options import ServerOptions, tls_options, trace_settings
from .ports import Addresses

INFERENCE_API = "inference"


def server_command(
    runtime: Runtime,
    repository: Path,
    addresses: Addresses,
    *,
    scratch: Path,
    shm_prefix: str,
    key: str,
    stop_timeout_s: float,
    extras: ServerOptions,
) -> list[str]:
    """The whole command.

    Args:
        runtime: the tritonserver.
        repository: model repository; all models are loaded.
        addresses: where to listen.
        scratch: folder for the backend directory.
        shm_prefix: start of the names of this run's shared memory.
        key: opens the APIs that others must not use; other users of this machine can read it in the process list.
        stop_timeout_s: how long answers in flight may take after SIGTERM.
        extras: TLS, response cache, traces.
    """
    # tritonserver encrypts gRPC only: what is not encrypted takes no videos. And JSON whose shape asks for more memory
    # than there is ends tritonserver 2.51 in its own parser.
    http_restricted = [*RESTRICTED, *([INFERENCE_API] if extras.keeps_http(addresses.exposed) else [])]
    options: dict[str, object] = {
        "model-repository": repository,
        "backend-directory": runtime.backend_directory(scratch),
        "model-control-mode": "explicit",  # the supervisor brings crashed models back by unloading and loading
        "load-model": "*",
        "grpc-address": addresses.bind,
        "grpc-port": addresses.grpc_port,
        "http-address": addresses.http_bind,
        "http-port": addresses.http_port,
        "metrics-address": addresses.bind,
        "metrics-port": addresses.metrics_port,
        "grpc-restricted-protocol": f"{','.join(RESTRICTED)}:{KEY_HEADER}={key}",
        "http-restricted-api": f"{','.join(http_restricted)}:{KEY_HEADER}={key}",
        "backend-config": f"python,shm-region-prefix-name={shm_prefix}",
        "exit-timeout-secs": math.ceil(stop_timeout_s),
        "grpc-infer-allocation-pool-size": 0,  # else eight requests stay in memory, of the largest size ever sent
    }
    if runtime.embedded:
        options |= {"pinned-memory-pool-byte-size": 0, "allow-gpu-metrics": "false"}  # no GPU: do not look for one
        options["disable-auto-complete-config"] = None  # completing what is complete would start every stub twice
    if extras.tls:
        options |= tls_options(extras.tls, scratch)
    if extras.response_cache_bytes:
        options["cache-config"] = f"local,size={extras.response_cache_bytes}"
        options["cache-directory"] = runtime.cache_directory
    return [
        str(runtime.executable),
        *(f"--{name}" if value is None else f"--{name}={value}" for name, value in options.items()),
        *(f"--trace-config={setting}" for setting in (trace_settings(extras.tracing) if extras.tracing else ())),
    ]
