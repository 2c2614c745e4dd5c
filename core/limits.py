"""What a decoding process may take of the machine, held by the operating system.

Headers are checked before anything is decoded, but a small file can still ask for gigabytes: by reference frames, or by
packets that are larger than the header says.
"""

from __future__ import annotations

import importlib
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

MEMORY_BYTES = 3 << 30  # of address space: a process that has decoded nothing has 0.5 GB, 8K UHD of ten bits takes 2 GB


@dataclass(frozen=True)
class Limits:
    """What one process may take.

    Attributes:
        memory_bytes: address space; beyond it, allocations fail.
        cpu_s: processor time between two answers; beyond it, SIGXCPU ends the process.
    """

    memory_bytes: int = MEMORY_BYTES
    cpu_s: float = 120.0

    def confine(self) -> None:
        """Confine this process for good: its memory, and that it writes no file.

        Children are not forbidden: the limit of the system counts threads, too, and FFmpeg's scaler starts some.
        """
        resource = _resource()
        if resource is not None:
            _lower(resource, resource.RLIMIT_AS, self.memory_bytes)
            _lower(resource, resource.RLIMIT_FSIZE, 0)
            _lower(resource, resource.RLIMIT_CORE, 0)

    def renew_cpu(self) -> None:
        """Grant the processor time for one more answer."""
        resource = _resource()
        if resource is not None:
            _, hard = resource.getrlimit(resource.RLIMIT_CPU)
            soft = int(time.process_time() + self.cpu_s) + 1
            with suppress(ValueError, OSError):  # a shell's own limit is lower: it holds
                resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))

    @property
    def memory_sentence(self) -> str:
        """What to say of a file that wants more."""
        return f"decoding needs more than the {self.memory_bytes / (1 << 20):.0f} MiB of memory it is allowed"


def _resource() -> Any:
    """The module of that name, where the system has such limits."""
    try:
        return importlib.import_module("resource")
    except ImportError:
        return None


def _lower(resource: Any, what: int, limit: int) -> None:
    _, hard = resource.getrlimit(what)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    with suppress(ValueError, OSError):  # not on every system
        resource.setrlimit(what, (limit, limit))
