"""Tensors of impossible axes reach the Python backend as empty ones, which the runner refuses.

tritonserver multiplies axes in 64 bits: ``[1, 2^62, 4, 1, 3]`` with no data has the right number of bytes for it. Its
Python backend then asks NumPy for such an array in C++, where nobody catches NumPy's refusal: the process of the model
dies. It asks through NumPy's table of C functions, which it looks up by name at the first tensor. So another table lies
there before, whose function for new arrays never refuses.

Copied beside ``runner.py`` into a model repository; the same rules hold.
"""

from __future__ import annotations

import ctypes
import importlib
import math
from typing import Any

import numpy as np

# Where pybind11, which the backend is made with, looks for the table.
_HOLDER = "numpy._core.multiarray" if int(np.__version__.split(".")[0]) > 1 else "numpy.core.multiarray"
_MOST_ELEMENTS = 2**48  # more than any memory holds, and far from where 64 bits overflow
_NEW_FROM_DESCR = 94  # numpy/core/code_generators/numpy_api.py; numbers there are for good
_TABLE_LENGTH = 283  # pybind11 reads no entry behind 282

# (subtype, descr, nd, dims, strides, data, flags, obj) -> new reference. Addresses stay numbers: nothing here may count
# references, the function called takes over the caller's.
_ADDRESS, _LENGTHS = ctypes.c_void_p, ctypes.POINTER(ctypes.c_ssize_t)
_PROTOTYPE = ctypes.PYFUNCTYPE(
    _ADDRESS, _ADDRESS, _ADDRESS, ctypes.c_int, _LENGTHS, _ADDRESS, _ADDRESS, ctypes.c_int, _ADDRESS
)
_kept: list[Any] = []  # what C code has the addresses of


def install() -> None:
    """Put the table in place; to be called before the backend's first tensor. A second call does nothing."""
    if _kept:
        return
    get, new = ctypes.pythonapi.PyCapsule_GetPointer, ctypes.pythonapi.PyCapsule_New
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    holder: Any = importlib.import_module(_HOLDER)
    known, kind = holder._ARRAY_API, ctypes.c_void_p * _TABLE_LENGTH
    table = kind.from_buffer_copy(kind.from_address(get(known, None)))
    original = _PROTOTYPE(table[_NEW_FROM_DESCR] or 0)

    def new_from_descr(
        subtype: Any, descr: Any, nd: int, dims: Any, strides: Any, data: Any, flags: int, obj: Any
    ) -> int | None:
        lengths = dims[:nd]
        if min(lengths, default=0) < 0 or math.prod(length for length in lengths if length) > _MOST_ELEMENTS:
            dims, strides = (ctypes.c_ssize_t * nd)(), None  # [0, 0, ...], which no request can have: its batch is >= 1
        made: int | None = original(subtype, descr, nd, dims, strides, data, flags, obj)
        return made

    guarded = _PROTOTYPE(new_from_descr)
    table[_NEW_FROM_DESCR] = ctypes.cast(guarded, ctypes.c_void_p).value
    _kept.extend([known, table, original, guarded])
    holder._ARRAY_API = new(ctypes.addressof(table), None, None)


def was_impossible(array: np.ndarray) -> bool:
    """Whether an array of a request stands for one whose axes no memory holds."""
    return array.ndim > 0 and not any(array.shape)
