"""Thin gRPC client: a path, bytes or frames in, a ``Prediction`` out.

>>> from reelkind.client import Client
>>> with Client("127.0.0.1:8001") as client:
...     prediction = client.classify("holiday.mp4")
...     print(prediction.label, prediction.confidence)
natural 0.93
"""

from reelkind.core.errors import ReelkindError, VideoError

from ._async_client import AsyncClient
from ._calls import DEFAULT_URL
from ._client import Client
from ._errors import (
    AccessDenied,
    ClientError,
    ContractMismatch,
    InvalidUrl,
    ModelUnavailable,
    RequestCancelled,
    RequestRejected,
    RequestTimeout,
    RequestTooLarge,
    ServerBusy,
    ServerFailed,
    ServerUnavailable,
)
from ._prediction import Failure, ModelInfo, Prediction
from ._wire import ServerInfo
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
    "InlineDecoder",
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
    "ServerBusy",
    "ServerFailed",
    "ServerInfo",
    "ServerUnavailable",
    "VideoError",
]
