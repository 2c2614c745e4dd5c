"""What a client needs of a connection, whichever protocol it speaks, and how coroutines run without an event loop.

Everything above the connection is written once, as coroutines. Over a blocking transport none of their awaits ever
suspends, so ``finish`` runs them to their end in the calling thread; over an asynchronous one they are awaited.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

P = ParamSpec("P")
T = TypeVar("T")

Array = npt.NDArray[np.generic]

_ALIGNMENT = 64  # bytes; where tensors begin in shared memory


@dataclass(frozen=True)
class ModelConfig:
    """What a server says of one of its models.

    Attributes:
        name: of the model.
        max_batch: most items of axis 0 in one request.
        inputs, outputs: names of its tensors.
        parameters: texts by name.
    """

    name: str
    max_batch: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class Reply:
    """What a model answered.

    Attributes:
        tensors: by name.
        version: of the model, which changes when it gets other weights.
    """

    tensors: dict[str, Array]
    version: str


class Waiting(Protocol):
    """How time passes."""

    async def sleep(self, duration_s: float) -> None: ...

    async def offload(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what takes long where it holds up nobody else."""
        ...


class Transport(Waiting, Protocol):
    """One connection to a server. Every failure is a ``ClientError``.

    Attributes:
        max_request_bytes: most bytes of tensors in one request.
    """

    max_request_bytes: int

    async def config(self, model: str, timeout_s: float) -> ModelConfig: ...

    async def is_ready(self, model: str, timeout_s: float) -> bool: ...

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        timeout_s: float,
        region: str | None = None,
    ) -> Reply:
        """Send tensors and wait for others.

        Args:
            model: name of the model.
            inputs: by name, contiguous.
            outputs: names of those wanted.
            timeout_s: deadline.
            region: shared memory where the inputs lie already, at their ``offsets``.
        """
        ...

    async def register(self, region: str, num_bytes: int, timeout_s: float) -> None:
        """Have the server map shared memory."""
        ...

    async def unregister(self, region: str, timeout_s: float) -> None:
        """Have the server unmap shared memory."""
        ...

    async def close(self) -> None: ...


class Blocking(Waiting):
    """Waits in the calling thread."""

    async def sleep(self, duration_s: float) -> None:
        time.sleep(duration_s)

    async def offload(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return function(*args, **kwargs)


class Looping(Waiting):
    """Waits on the event loop; long work goes to threads."""

    async def sleep(self, duration_s: float) -> None:
        await asyncio.sleep(duration_s)

    async def offload(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.to_thread(function, *args, **kwargs)


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine over a blocking transport to its end."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    raise AssertionError("a blocking transport has suspended")


def offsets(tensors: Mapping[str, Array]) -> tuple[dict[str, int], int]:
    """Where each of several tensors begins in one piece of memory, and how long that must be, in bytes."""
    starts, end = {}, 0
    for name, tensor in tensors.items():
        starts[name] = end
        end += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
    return starts, end
