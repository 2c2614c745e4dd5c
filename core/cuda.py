"""NVIDIA's driver by ctypes: is there a card, which one, and its memory, streams, graphs and events.

A driver is all this needs: no CUDA toolkit, no Python package. TensorRT crashes the process where there is none, so
whoever wants TensorRT makes a ``Device`` first.

This file is also copied beside ``model.py`` into model repositories and imports nothing of reelkind.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_ulonglong, c_void_p
from typing import Any

import numpy as np

DRIVER_LIBRARY = "libcuda.so.1"

_MULTIPROCESSORS, _CAPABILITY_MAJOR, _CAPABILITY_MINOR = 16, 75, 76  # CUdevice_attribute
_NON_BLOCKING, _CAPTURE_THREAD_LOCAL = 1, 1  # CUstream_flags, CUstreamCaptureMode
_SUCCESS = 0

_PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuDeviceTotalMem_v2": (POINTER(c_size_t), c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuCtxSetCurrent": (c_void_p,),
    "cuMemGetInfo_v2": (POINTER(c_size_t), POINTER(c_size_t)),
    "cuMemAlloc_v2": (POINTER(c_ulonglong), c_size_t),
    "cuMemFree_v2": (c_ulonglong,),
    "cuMemAllocHost_v2": (POINTER(c_void_p), c_size_t),
    "cuMemFreeHost": (c_void_p,),
    "cuMemcpyHtoDAsync_v2": (c_ulonglong, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_ulonglong, c_size_t, c_void_p),
    "cuStreamCreate": (POINTER(c_void_p), c_uint),
    "cuStreamSynchronize": (c_void_p,),
    "cuStreamBeginCapture_v2": (c_void_p, c_int),
    "cuStreamEndCapture": (c_void_p, POINTER(c_void_p)),
    "cuGraphInstantiateWithFlags": (POINTER(c_void_p), c_void_p, c_ulonglong),
    "cuGraphLaunch": (c_void_p, c_void_p),
    "cuGraphDestroy": (c_void_p,),
    "cuGraphExecDestroy": (c_void_p,),
    "cuEventCreate": (POINTER(c_void_p), c_uint),
    "cuEventRecord": (c_void_p, c_void_p),
    "cuEventSynchronize": (c_void_p,),
    "cuEventElapsedTime": (POINTER(c_float), c_void_p, c_void_p),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
}


class CudaError(Exception):
    """There is no card, or its driver refused a call; the message says which."""


class Device:
    """One card, or one MIG slice of a card: what ``CUDA_VISIBLE_DEVICES`` shows as number ``index``.

    Attributes:
        name: e.g. ``"NVIDIA A100-SXM4-80GB MIG 1g.10gb"``.
        compute_capability: e.g. ``"8.0"``.
        num_sms: streaming multiprocessors; 14 on a 1g.10gb slice.
        memory_bytes: of the card or slice.
        driver_version: highest CUDA version of the driver, e.g. ``"13.0"``.

    Raises:
        CudaError: if there is no driver or no such device.
    """

    def __init__(self, index: int = 0) -> None:
        try:
            self._library = ctypes.CDLL(DRIVER_LIBRARY)
        except OSError:
            raise CudaError(f"no NVIDIA driver here ({DRIVER_LIBRARY} is missing)") from None
        for name, arguments in _PROTOTYPES.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = arguments, c_int
        self.call("cuInit", 0)
        device = self._int("cuDeviceGet", index)
        text = ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", text, len(text), device)
        self.name = text.value.decode()
        major, minor, self.num_sms = (
            self._int("cuDeviceGetAttribute", attribute, device)
            for attribute in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR, _MULTIPROCESSORS)
        )
        self.compute_capability = f"{major}.{minor}"
        version = self._int("cuDriverGetVersion")
        self.driver_version = f"{version // 1000}.{version % 1000 // 10}"
        size = c_size_t()
        self.call("cuDeviceTotalMem_v2", byref(size), device)
        self.memory_bytes = size.value
        self._context = self._pointer("cuDevicePrimaryCtxRetain", device)
        self.make_current()

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the driver.

        Raises:
            CudaError: naming function and error, unless it succeeds.
        """
        code = getattr(self._library, name)(*arguments)
        if code != _SUCCESS:
            text = c_char_p()
            self._library.cuGetErrorName(code, byref(text))
            raise CudaError(f"{name}: {text.value.decode() if text.value else f'error {code}'}")

    def make_current(self) -> None:
        """Let the calling thread use the device; every thread must, before anything else here."""
        self.call("cuCtxSetCurrent", self._context)

    def free_bytes(self) -> int:
        """Memory of the device that nobody uses, other programs included."""
        free, total = c_size_t(), c_size_t()
        self.call("cuMemGetInfo_v2", byref(free), byref(total))
        return free.value

    def allocate(self, num_bytes: int) -> int:
        """Address of memory on the device; ``free`` gives it back."""
        address = c_ulonglong()
        self.call("cuMemAlloc_v2", byref(address), max(1, num_bytes))
        return address.value

    def free(self, address: int) -> None:
        """Give memory on the device back."""
        self.call("cuMemFree_v2", address)

    def pinned(self, num_bytes: int) -> np.ndarray:
        """Memory of the host that the device copies from and to at full speed; ``unpin`` gives it back.

        Returns:
            uint8 [num_bytes], not initialised.
        """
        address = self._pointer("cuMemAllocHost_v2", max(1, num_bytes))
        return np.ctypeslib.as_array((ctypes.c_uint8 * num_bytes).from_address(address))

    def unpin(self, array: np.ndarray) -> None:
        """Give pinned memory back; neither the array nor views of it may be used again."""
        self.call("cuMemFreeHost", array.ctypes.data)

    def copy_in(self, address: int, array: np.ndarray, stream: int) -> None:
        """Start to copy a pinned array to the device."""
        self.call("cuMemcpyHtoDAsync_v2", address, array.ctypes.data, array.nbytes, stream)

    def copy_out(self, array: np.ndarray, address: int, stream: int) -> None:
        """Start to copy from the device into a pinned array."""
        self.call("cuMemcpyDtoHAsync_v2", array.ctypes.data, address, array.nbytes, stream)

    def new_stream(self) -> int:
        """A queue of work on the device."""
        return self._pointer("cuStreamCreate", _NON_BLOCKING)

    def wait(self, stream: int) -> None:
        """Wait until everything in the queue is done."""
        self.call("cuStreamSynchronize", stream)

    def record(self, stream: int, work: Callable[[], None]) -> int:
        """Record what ``work`` puts into the stream as a graph, which ``launch`` repeats in one call.

        Raises:
            CudaError: if something of it cannot be recorded; the stream is usable again then.
        """
        self.call("cuStreamBeginCapture_v2", stream, _CAPTURE_THREAD_LOCAL)
        graph = c_void_p()
        try:
            work()
        finally:
            self._library.cuStreamEndCapture(stream, byref(graph))
        if not graph.value:
            raise CudaError("the work cannot be recorded as a CUDA graph")
        try:
            return self._pointer("cuGraphInstantiateWithFlags", graph, 0)
        finally:
            self.call("cuGraphDestroy", graph)

    def launch(self, graph: int, stream: int) -> None:
        """Put a recorded graph into the stream."""
        self.call("cuGraphLaunch", graph, stream)

    def forget(self, graph: int) -> None:
        """Give a recorded graph back."""
        self.call("cuGraphExecDestroy", graph)

    def new_event(self) -> int:
        """A mark whose time can be read."""
        return self._pointer("cuEventCreate", 0)

    def mark(self, event: int, stream: int) -> None:
        """Put a mark into the stream."""
        self.call("cuEventRecord", event, stream)

    def elapsed_ms(self, start: int, end: int) -> float:
        """Time between two marks, after waiting for the second."""
        self.call("cuEventSynchronize", end)
        milliseconds = c_float()
        self.call("cuEventElapsedTime", byref(milliseconds), start, end)
        return milliseconds.value

    def _int(self, name: str, *arguments: Any) -> int:
        value = c_int()
        self.call(name, byref(value), *arguments)
        return value.value

    def _pointer(self, name: str, *arguments: Any) -> int:
        value = c_void_p()
        self.call(name, byref(value), *arguments)
        assert value.value is not None
        return value.value
