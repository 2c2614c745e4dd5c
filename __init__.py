"""reelkind tells what kind of picture a video is: animation, gaming, natural or flat.

>>> import reelkind
>>> with reelkind.open() as model:
...     print(model("samples/natural_handheld.mp4").label)
natural

``open`` finds a server or starts one; ``Client`` and ``AsyncClient`` ask one that runs elsewhere.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reelkind.client import AsyncClient as AsyncClient
    from reelkind.client import Client as Client
    from reelkind.core.errors import ReelkindError as ReelkindError
    from reelkind.deployment.opening import Model as Model
    from reelkind.deployment.opening import open as open

    __version__: str

_HOMES = {
    "AsyncClient": "reelkind.client",
    "Client": "reelkind.client",
    "Model": "reelkind.deployment.opening",
    "ReelkindError": "reelkind.core.errors",
    "open": "reelkind.deployment.opening",
}
__all__ = ["AsyncClient", "Client", "Model", "ReelkindError", "__version__", "open"]


def __getattr__(name: str) -> Any:  # loaded when asked for: `reelkind --help` needs none of it
    if name == "__version__":
        return import_module("importlib.metadata").version("reelkind")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
