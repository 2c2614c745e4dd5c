"""Thin client: a path, bytes, frames or features in, a ``Prediction`` out; a long video in, a ``Timeline`` out.

>>> from reelkind.client import Client
>>> with Client("127.0.0.1:8001") as client:
...     prediction = client.classify("holiday.mp4")
...     print(prediction.label, prediction.confidence)
natural 0.93
"""

from reelkind.core.errors import ReelkindError, VideoError
from reelkind.core.features import Features, FeaturesError

from ._address import Tls
from ._async_client import AsyncClient
from ._cache import FeatureCache
from ._client import Client
from ._errors import (
    AccessDenied,
    ClientError,
    ContractMismatch,
    InvalidOption,
    InvalidUrl,
    ModelUnavailable,
    RequestCancelled,
    RequestRejected,
    RequestTimeout,
    RequestTooLarge,
    ServerBusy,
    ServerFailed,
    ServerUnavailable,
    TlsFailed,
)
from ._handshake import ServerInfo
from ._prediction import Failure, ModelInfo, Prediction
from ._session import DEFAULT_URL
from ._timeline import Segment, Timeline, Window
from .decoding import Decoder, InlineDecoder, ProcessDecoder

__all__ = [
    "DEFAULT_URL",
    "AccessDenied",
    "AsyncClient",
    "Client",
    "ClientError",
    "ContractMismatch",
    "Decoder",
    "Failure",
    "FeatureCache",
    "Features",
    "FeaturesError",
    "InlineDecoder",
    "InvalidOption",
    "InvalidUrl",
    "ModelInfo",
    "ModelUnavailable",
    "Prediction",
    "ProcessDecoder",
    "ReelkindError",
    "RequestCancelled",
    "RequestRejected",
    "RequestTimeout",
    "RequestTooLarge",
    "Segment",
    "ServerBusy",
    "ServerFailed",
    "ServerInfo",
    "ServerUnavailable",
    "Timeline",
    "Tls",
    "TlsFailed",
    "VideoError",
    "Window",
]
