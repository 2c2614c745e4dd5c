"""Thin client: a path, bytes, frames or features in, a ``Prediction`` out; a long video in, a ``Timeline`` out.

>>> from reelkind.client import Client
>>> with Client("127.0.0.1:8001") as client:
...     prediction = client.classify("holiday.mp4")
...     print(prediction.label, prediction.confidence)
natural 0.93
"""

from reelkind.core.errors import ReelkindError, VideoError
from reelkind.core.features import Features, FeaturesError
from reelkind.video.decoding import Decoder, InlineDecoder, ProcessDecoder

from .answers.handshake import ServerInfo
from .answers.prediction import Failure, ModelInfo, Prediction
from .answers.timeline import Segment, Timeline, Window
from .async_client import AsyncClient
from .cache import FeatureCache
from .client import Client
from .session import DEFAULT_URL
from .transport.address import Tls
from .transport.errors import (
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
from .transport.retry import PATIENT, Retry

__all__ = [
    "DEFAULT_URL",
    "PATIENT",
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
    "Retry",
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
