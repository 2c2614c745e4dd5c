"""The KServe v2 protocol over gRPC, through tritonclient, blocking and on the event loop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
from tritonclient import grpc as triton
from tritonclient.grpc import aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from reelkind.core.files.server_keys import KEY_HEADER, known_key

from .address import Address, Tls
from .errors import ClientError, ContractMismatch, InvalidOption, RequestCancelled, ServerFailed, from_status
from .transport import Array, Blocking, Looping, ModelConfig, Reply, offsets


class _Grpc:
    """Both kinds of tritonclient, which differ in whether their answers are awaited."""

    max_request_bytes = 1 << 29  # 512 MiB, more than the largest batch of longest clips at 224 px
    _client_type: type[Any]

    def __init__(self, address: Address, headers: dict[str, str], tls: Tls | None) -> None:
        self._address, self._url, self._headers = address, address.url, headers
        self._closed = False
        credentials = None if tls is None else grpc.ssl_channel_credentials(*tls.read())
        target = f"{address.host}:{address.port}"
        self._client = self._client_type(target, creds=credentials, channel_args=_channel_args(address))

    async def config(self, model: str, timeout_s: float) -> ModelConfig:
        response = await self._call(self._client.get_model_config, timeout_s, model_name=model)
        config = self._read(response).config
        return ModelConfig(
            name=config.name,
            max_batch=max(1, config.max_batch_size),
            inputs=tuple(tensor.name for tensor in config.input),
            outputs=tuple(tensor.name for tensor in config.output),
            parameters={name: value.string_value for name, value in config.parameters.items()},
        )

    async def is_ready(self, model: str, timeout_s: float) -> bool:
        server = await self._call(self._client.is_server_ready, timeout_s)
        return bool(server and await self._call(self._client.is_model_ready, timeout_s, model_name=model))

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        timeout_s: float,
        region: str | None = None,
    ) -> Reply:
        result = await self._call(
            self._client.infer,
            timeout_s,
            model_name=model,
            inputs=_inputs(inputs, region),
            outputs=[triton.InferRequestedOutput(name) for name in outputs],
        )
        response = self._read(result.get_response())
        return Reply({name: self._tensor(result, name) for name in outputs}, response.model_version)

    async def register(self, region: str, num_bytes: int, timeout_s: float) -> None:
        method = self._client.register_system_shared_memory
        await self._call(method, timeout_s, name=region, key=f"/{region}", byte_size=num_bytes, headers=self._owner())

    async def unregister(self, region: str, timeout_s: float) -> None:
        method = self._client.unregister_system_shared_memory
        await self._call(method, timeout_s, name=region, headers=self._owner())

    async def close(self) -> None:
        self._closed = True
        closing = self._client.close()
        if inspect.isawaitable(closing):
            await closing

    def _owner(self) -> dict[str, str]:
        """Headers of what a server on this machine does for its owner only."""
        key = known_key(self._address.port)
        return self._headers if key is None else {**self._headers, f"triton-grpc-protocol-{KEY_HEADER}": key}

    async def _call(self, method: Callable[..., Any], timeout_s: float, **arguments: Any) -> Any:
        try:
            result = method(**{"headers": self._headers, "client_timeout": timeout_s, **arguments})
            return await result if inspect.isawaitable(result) else result
        except InferenceServerException as error:
            raise from_status(error.status(), error.message(), self._url) from error
        except asyncio.CancelledError:
            if self._closed:  # which cancels calls under way, not whoever awaits them
                raise self._is_closed() from None
            raise
        except Exception as error:
            if self._closed:
                raise self._is_closed() from error
            raise ServerFailed(f"the request to {self._url} failed: {type(error).__name__}: {error}") from error

    def _read(self, response: Any) -> Any:
        if response is None:  # grpc.aio's word for bytes that are no protobuf
            raise ServerFailed(f"{self._url} gave an answer that cannot be read")
        return response

    def _is_closed(self) -> ClientError:
        return RequestCancelled(f"the client of {self._url} is closed")

    def _tensor(self, result: Any, name: str) -> Array:
        try:
            found: Array | None = result.as_numpy(name)
        except (ValueError, TypeError, InferenceServerException) as error:  # bytes, shape and type disagree
            raise ContractMismatch(f"{self._url} answered with a damaged tensor {name!r}: {error}") from error
        if found is None:
            raise ContractMismatch(f"{self._url} answered without the tensor {name!r}")
        return found


class BlockingGrpc(_Grpc, Blocking):
    """Waits in the calling thread; threads may share it."""

    _client_type = triton.InferenceServerClient


class AsyncGrpc(_Grpc, Looping):
    """Waits on the event loop in which it is made."""

    _client_type = aio.InferenceServerClient

    def __init__(self, address: Address, headers: dict[str, str], tls: Tls | None) -> None:
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            raise InvalidOption("make an AsyncClient where it is used: inside a running event loop") from None
        super().__init__(address, headers, tls)

    async def _call(self, method: Callable[..., Any], timeout_s: float, **arguments: Any) -> Any:
        if asyncio.get_running_loop() is not self._loop:
            raise InvalidOption("this AsyncClient was made in another event loop: make one for each asyncio.run()")
        return await super()._call(method, timeout_s, **arguments)


def _inputs(inputs: Mapping[str, Array], region: str | None) -> list[triton.InferInput]:
    starts, _ = offsets(inputs)
    made = []
    for name, array in inputs.items():
        tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        if region is None:
            tensor.set_data_from_numpy(array)
        else:
            tensor.set_shared_memory(region, array.nbytes, offset=starts[name])
        made.append(tensor)
    return made


def _channel_args(address: Address) -> list[tuple[str, Any]]:
    """Options of gRPC: messages as large as ours, and quick reconnection: a restart is over in seconds."""
    args: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", -1),  # our own limit speaks first and says more
        ("grpc.max_receive_message_length", -1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 1_000),
        ("grpc.max_reconnect_backoff_ms", 2_000),
    ]
    if address.name:
        args.append(("grpc.ssl_target_name_override", address.name))
        args.append(("grpc.default_authority", f"{address.name}:{address.port}"))
    if address.is_local:
        args.append(("grpc.enable_http_proxy", 0))  # $http_proxy is not meant for this machine
    return args
