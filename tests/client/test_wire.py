"""Requests, responses and the handshake, without a network."""

import numpy as np
import pytest
from standin import PARAMETERS, StandinServer
from tritonclient.grpc import service_pb2

from reelkind.client import (
    Client,
    ContractMismatch,
    InvalidUrl,
    ModelUnavailable,
    RequestRejected,
    RequestTooLarge,
    ServerInfo,
    _wire,
)
from reelkind.client._calls import Call
from reelkind.core.taxonomy import CLASSES


def config(**parameters: str | None):
    standin = StandinServer()
    standin.parameters = {name: value for name, value in {**PARAMETERS, **parameters}.items() if value is not None}
    return standin.ModelConfig(service_pb2.ModelConfigRequest(name="classify"), None).config


@pytest.fixture
def info() -> ServerInfo:
    return _wire.read_config(config(), "host:1")


def test_the_handshake_tells_what_to_decode_and_who_answers() -> None:
    info = _wire.read_config(
        config(members="lite,full", weights="ab,cd", views="identity,flip", trained="false"), "h:1"
    )
    assert (info.num_frames, info.frame_size_px, info.max_batch, info.classes) == (4, 32, 8, CLASSES)
    assert (info.model.members, info.model.weights, info.model.views) == (
        ("lite", "full"),
        ("ab", "cd"),
        ("identity", "flip"),
    )
    assert not info.model.trained


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"contract_version": "2"}, "speaks contract 2, this client speaks 1: use the same release"),
        ({"contract_version": None}, "is no ensemble of reelkind: its config lacks contract_version"),
        (dict.fromkeys(PARAMETERS), "lacks contract_version, num_frames, frame_size_px, classes"),
        ({"num_frames": "many"}, "does not say how many frames"),
        ({"classes": "cat,dog"}, "tells cat, dog apart, this client knows animation"),
    ],
)
def test_other_models_are_refused_with_the_reason(parameters: dict, message: str) -> None:
    with pytest.raises(ContractMismatch, match=message):
        _wire.read_config(config(**parameters), "host:1")


def test_a_model_with_other_tensors_is_refused() -> None:
    other = config()
    del other.output[:]
    with pytest.raises(ContractMismatch, match="takes frames and gives nothing"):
        _wire.read_config(other, "host:1")


def test_one_video_becomes_a_batch_of_one(info: ServerInfo) -> None:
    assert _wire.as_batch(np.zeros((4, 32, 32, 3), np.uint8), info).shape == (1, 4, 32, 32, 3)


def test_views_of_other_arrays_are_sent_in_order(info: ServerInfo) -> None:
    frames = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)[:, ::-1]
    request = _wire.request(_wire.as_batch(frames, info))
    assert request["inputs"][0]._get_content() == np.ascontiguousarray(frames).tobytes()
    assert request["inputs"][0].shape() == [1, 2, 3, 4, 3]


@pytest.mark.parametrize(
    ("frames", "error", "message"),
    [
        (np.zeros((4, 32, 32, 3), np.float32), RequestRejected, "tensor 'frames' is float32"),
        (np.zeros((32, 32, 3), np.uint8), RequestRejected, "tensor 'frames'"),
        (np.zeros((0, 32, 32, 3), np.uint8), RequestRejected, "no axis empty"),
        (np.zeros((9, 4, 2, 2, 3), np.uint8), RequestTooLarge, "9 videos in one request, the server takes 8"),
        (np.zeros((301, 2, 2, 3), np.uint8), RequestTooLarge, "301 frames of a video, at most 300"),
        ([np.zeros((32, 32, 3), np.uint8), np.zeros((16, 16, 3), np.uint8)], RequestRejected, "inhomogeneous"),
        (np.broadcast_to(np.uint8(0), (8, 300, 400, 400, 3)), RequestTooLarge, "scale them to 32x32 first"),
    ],
    ids=["float", "one-frame", "no-frames", "too-many-videos", "too-many-frames", "different-sizes", "too-many-bytes"],
)
def test_what_cannot_be_sent_is_refused_with_the_way_out(
    info: ServerInfo, frames: np.ndarray, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        _wire.as_batch(frames, info)


@pytest.mark.parametrize("url", ["127.0.0.1:8001", "localhost:1", "gpu-7.lan:8001", "[::1]:8001"])
def test_addresses_are_host_and_port(url: str) -> None:
    assert _wire.check_url(url) == url


@pytest.mark.parametrize(
    "url", ["http://host:8001", "host", "", "host:", ":8001", "a b:1", "host:8001/x", "h:0", "h:65536", "\udcff:1"]
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(InvalidUrl, match="write host:port"):
        _wire.check_url(url)


@pytest.mark.parametrize("name", ["", "\udcff", "a\nb"])
def test_names_that_no_model_has_are_refused(name: str) -> None:
    with pytest.raises(ModelUnavailable, match="the default ensemble is 'classify'"):
        Client("host:1", ensemble=name)


def test_times_must_be_those_of_the_frames(info: ServerInfo) -> None:
    with pytest.raises(RequestRejected, match="one time for each of the 4 frames"):
        Call(np.zeros((4, 32, 32, 3), np.uint8), info, times_ms=[0, 40])


def test_a_proxy_is_not_asked_for_this_machine() -> None:
    assert ("grpc.enable_http_proxy", 0) in _wire.channel_args("127.0.0.1:8001")
    assert ("grpc.enable_http_proxy", 0) not in _wire.channel_args("gpu-7:8001")
