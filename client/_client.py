"""The blocking client."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, TypeVar, cast

import numpy.typing as npt
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

from reelkind.core.errors import ReelkindError

from . import _calls, _shared_memory, _wire
from ._errors import ClientError, RequestCancelled, ServerUnavailable, from_triton
from ._prediction import Failure, Prediction
from ._retry import Patience
from .decoding import Decoder, InlineDecoder

T = TypeVar("T")


class Client:
    """Classifies videos through a server. Threads may share one client.

    >>> with Client("127.0.0.1:8001") as client:
    ...     print(client.classify("holiday.mp4").label)
    natural

    Args:
        url: ``host:port`` of the server's gRPC port.
        ensemble: which model, e.g. ``"classify_tta"``.
        timeout_s: deadline of one call, retries included, decoding not.
        retry_s: how long a passing failure (full queue, model being restarted, a server that answered before) is
            tried again; 0 for never.
        decoder: how files are decoded; by default in this process. The caller closes it.
        headers: sent with every request, e.g. for a proxy that authenticates.
        shared_memory: whether a server on this machine gets the frames through shared memory: about a third of the
            the CPU time; where it cannot, they go by the wire.
    """

    def __init__(
        self,
        url: str = _calls.DEFAULT_URL,
        *,
        ensemble: str = _calls.DEFAULT_ENSEMBLE_NAME,
        timeout_s: float = _calls.TIMEOUT_S,
        retry_s: float = _calls.RETRY_S,
        decoder: Decoder | None = None,
        headers: Mapping[str, str] | None = None,
        shared_memory: bool = True,
    ) -> None:
        self.url = _wire.check_url(url)
        self.ensemble = _wire.check_model_name(ensemble)
        self._timeout_s = timeout_s
        self._retry_s = retry_s
        self._decoder: Decoder = InlineDecoder() if decoder is None else decoder
        self._headers = dict(headers or {})
        self._triton = triton.InferenceServerClient(self.url, channel_args=_wire.channel_args(self.url))
        self._regions = _shared_memory.Regions(self._triton, self.url, self._headers)
        if not shared_memory:
            self._regions.stop("as the caller wants")
        self._info: _wire.ServerInfo | None = None
        self._connected = False
        self._lock = threading.Lock()

    @property
    def server_info(self) -> _wire.ServerInfo:
        """What the server says of the ensemble; asked once.

        Raises:
            ClientError: if it does not answer, lacks the ensemble, or speaks another contract.
        """
        with self._lock:
            if self._info is None:
                timeout_s = min(self._timeout_s, _calls.PROBE_TIMEOUT_S)
                response = self._call(self._triton.get_model_config, timeout_s, model_name=self.ensemble)
                self._info = _wire.read_config(response.config, self.url)
            return self._info

    def is_ready(self) -> bool:
        """Whether the server says that it can answer; one whose model just crashed still says so."""
        probe = {"headers": self._headers, "client_timeout": _calls.PROBE_TIMEOUT_S}
        try:
            return bool(self._triton.is_server_ready(**probe) and self._triton.is_model_ready(self.ensemble, **probe))
        except InferenceServerException:
            return False

    def wait_until_ready(self, timeout_s: float = 60.0) -> None:
        """Wait for a server that is being started.

        Raises:
            ServerUnavailable: if it is not ready by then.
        """
        deadline = time.monotonic() + timeout_s
        while not self.is_ready():
            if time.monotonic() > deadline:
                raise ServerUnavailable(f"{self.ensemble!r} at {self.url} is not ready after {timeout_s:g} s")
            time.sleep(_calls.READY_PAUSE_S)

    def classify(self, path: _calls.StrPath) -> Prediction:
        """Decode a file and classify it.

        Raises:
            VideoError: if the file cannot be read as video.
            ClientError: if the server does not answer.
        """
        info = self.server_info
        decoded = self._decoder.decode(path, num_frames=info.num_frames, size_px=info.frame_size_px)
        return cast(Prediction, self._infer(_calls.Call.of(decoded, info, os.fspath(path))))

    def classify_bytes(self, data: _calls.Data, name: str = _calls.BYTES_NAME) -> Prediction:
        """Classify a video that is in memory or in an open binary file, called ``name``; errors as ``classify``."""
        info = self.server_info
        decoded = _calls.decode_data(self._decoder, data, info, name)
        return cast(Prediction, self._infer(_calls.Call.of(decoded, info, name)))

    def classify_frames(
        self, frames: npt.ArrayLike, times_ms: npt.ArrayLike | None = None
    ) -> Prediction | Sequence[Prediction]:
        """Classify frames decoded elsewhere.

        Args:
            frames: uint8 RGB, one video [T, H, W, 3] or several [B, T, H, W, 3], in order of time.
            times_ms: int64 [T], when each was on screen; only passed through.

        Returns:
            One prediction, or one a video of a batch.

        Raises:
            RequestRejected: if these are no frames, or too many for one request.
            ClientError: if the server does not answer.
        """
        return self._infer(_calls.Call(frames, self.server_info, times_ms=times_ms))

    def classify_many(
        self, paths: Iterable[_calls.StrPath], *, concurrency: int | None = None, ordered: bool = True
    ) -> Iterator[Prediction | Failure]:
        """Classify any number of files, several at a time; one that fails does not end the run.

        ``paths`` is read as the work goes on, so memory does not grow with its length.

        Args:
            paths: files.
            concurrency: files in flight; by default two more than the decoder has workers.
            ordered: answer in the order of ``paths``, or as each is ready.

        Raises:
            ClientError: before the first answer, if there is no server to ask.
        """
        limit = _calls.in_flight(self._decoder, concurrency)
        _ = self.server_info  # a wrong address is one error, not one a file
        return self._stream(paths, limit, ordered)

    def close(self) -> None:
        """Close the connection; calls under way end with ``RequestCancelled``."""
        self._regions.close()
        self._triton.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _stream(self, paths: Iterable[_calls.StrPath], limit: int, ordered: bool) -> Iterator[Prediction | Failure]:
        pool = ThreadPoolExecutor(limit, thread_name_prefix="reelkind")
        waiting: deque[Future[Prediction | Failure]] = deque()
        try:
            for path in paths:
                waiting.append(pool.submit(self._attempt, path))
                while len(waiting) >= 2 * limit:  # finished ones may queue behind a slow one
                    yield _next(waiting, ordered)
                while waiting and ordered and waiting[0].done():
                    yield waiting.popleft().result()
            while waiting:
                yield _next(waiting, ordered)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _attempt(self, path: _calls.StrPath) -> Prediction | Failure:
        try:
            return self.classify(path)
        except ReelkindError as error:
            return Failure(os.fspath(path), error)

    def _infer(self, call: _calls.Call) -> Prediction | Sequence[Prediction]:
        with self._regions.lend(call) as loan:
            result = self._call(loan.infer, self._timeout_s, model_name=self.ensemble)
        return call.finish(result)

    def _call(self, method: Callable[..., T], timeout_s: float, **arguments: Any) -> T:
        patience = Patience(timeout_s, self._retry_s)
        while True:
            remaining_s = patience.remaining_s()
            try:
                result = method(headers=self._headers, client_timeout=remaining_s, **arguments)
            except InferenceServerException as error:
                failure: ClientError = from_triton(error, self.url)
            except ValueError as error:  # grpc: the channel was closed
                raise RequestCancelled(f"the client of {self.url} is closed") from error
            else:
                self._connected = True
                return result
            pause_s = patience.pause_s(failure, connected=self._connected)
            if pause_s is None:
                if isinstance(failure, ServerUnavailable):
                    self._connected = False  # gone: the next call need not wait for it as long
                raise failure
            time.sleep(pause_s)


def _next(waiting: deque[Future[Prediction | Failure]], ordered: bool) -> Prediction | Failure:
    first = waiting[0] if ordered else next(iter(wait(waiting, return_when=FIRST_COMPLETED).done))
    waiting.remove(first)
    return first.result()
