"""Requests, responses and the handshake, without a network."""

import numpy as np
import pytest
from standin import BORDERS, MODELS, PARAMETERS

from reelkind.client import (
    ContractMismatch,
    InvalidOption,
    InvalidUrl,
    RequestRejected,
    RequestTooLarge,
    ServerInfo,
    Tls,
)
from reelkind.client.answers import handshake, wire
from reelkind.client.transport.address import check_headers, parse_url, tls_for
from reelkind.client.transport.grpc_transport import _channel_args
from reelkind.client.transport.transport import Array, ModelConfig
from reelkind.core.taxonomy.classes import CLASSES

LIMIT = 1 << 29


def config(model: str = "classify", **parameters: str | None) -> ModelConfig:
    values = {**PARAMETERS, **MODELS[model], **parameters}
    taken, given = BORDERS[values["kind"] or "classify"]
    kept = {name: value for name, value in values.items() if value is not None}
    return ModelConfig(model, 8, tuple(taken), tuple(given), kept)


@pytest.fixture
def info() -> ServerInfo:
    return handshake.read_config(config(), "host:1")


def test_the_handshake_tells_what_to_decode_and_who_answers() -> None:
    several = config(
        members="lite,full", weights="ab,cd", views="identity,flip", untrained="full", feature_dims="3,5",
        member_weights="0.25,0.75", temporal_views="forward,reversed", abstain_below="0.75",
    )  # fmt: skip
    info = handshake.read_config(several, "h:1")
    assert (info.num_frames, info.frame_size_px, info.max_batch, info.classes) == (4, 32, 8, CLASSES)
    assert (info.kind, info.feature_dims, info.abstain_below) == ("classify", {"lite": 3, "full": 5}, 0.75)
    model = info.model
    assert (model.members, model.weights, model.member_weights) == (("lite", "full"), ("ab", "cd"), (0.25, 0.75))
    assert (model.views, model.temporal_views) == (("identity", "flip"), ("forward", "reversed"))
    assert (model.untrained, model.trained) == (("full",), False)
    assert model.to_dict()["untrained"] == ["full"]


def test_without_a_threshold_and_random_members_there_is_none(info: ServerInfo) -> None:
    assert (info.abstain_below, info.model.untrained, info.model.trained) == (None, (), True)


@pytest.mark.parametrize(
    ("model", "inputs", "outputs"),
    [
        ("classify", ["frames"], (*handshake.ANSWER_NAMES, "frame_probabilities")),
        ("features_lite", ["frames"], ("features_lite",)),
        ("classify_features_lite", ["features_lite"], (*handshake.ANSWER_NAMES, "frame_probabilities")),
    ],
)
def test_every_kind_of_model_says_what_it_takes_and_gives(model: str, inputs: list, outputs: tuple) -> None:
    info = handshake.read_config(config(model), "h:1")
    assert (list(info.inputs), info.outputs) == (inputs, outputs)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"contract_version": "2"}, "speaks contract 2, this client speaks 1: use the same release"),
        ({"contract_version": None}, "is no ensemble of reelkind: its config lacks contract_version"),
        (dict.fromkeys(PARAMETERS), "lacks contract_version, kind, num_frames, frame_size_px, classes"),
        ({"num_frames": "many"}, "does not describe itself in numbers: .*'many'"),
        ({"member_weights": "all"}, "does not describe itself in numbers"),
        ({"feature_dims": "3,4"}, "does not describe itself in numbers"),
        ({"kind": "features"}, "takes frames and gives probabilities, .*embedding.*; required: .*features_lite"),
        ({"classes": "cat,dog"}, "tells cat, dog apart, this client knows animation"),
    ],
)
def test_other_models_are_refused_with_the_reason(parameters: dict, message: str) -> None:
    described = config()
    values = {**described.parameters, **parameters}
    kept = {name: value for name, value in values.items() if value is not None}
    with pytest.raises(ContractMismatch, match=message):
        handshake.read_config(ModelConfig("classify", 8, described.inputs, described.outputs, kept), "host:1")


def test_kinds_of_a_later_release_are_refused() -> None:
    described = config()
    later = ModelConfig("x", 8, described.inputs, described.outputs, {**described.parameters, "kind": "segment"})
    with pytest.raises(ContractMismatch, match="of the kind 'segment', this client knows classify, features"):
        handshake.read_config(later, "host:1")


def test_one_video_becomes_a_batch_of_one() -> None:
    assert wire.as_batch(np.zeros((4, 32, 32, 3), np.uint8)).shape == (1, 4, 32, 32, 3)


def test_views_of_other_arrays_are_sent_in_order(info: ServerInfo) -> None:
    frames = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(1, 2, 3, 4, 3)[:, :, ::-1]
    sent = wire.check_request({"frames": frames}, info, LIMIT)["frames"]
    assert sent.tobytes() == np.ascontiguousarray(frames).tobytes()
    assert sent.flags.c_contiguous


@pytest.mark.parametrize(
    ("frames", "error", "message"),
    [
        (np.zeros((4, 32, 32, 3), np.float32), RequestRejected, "tensor 'frames' is float32"),
        (np.zeros((32, 32, 3), np.uint8), RequestRejected, "tensor 'frames'"),
        (np.zeros((0, 32, 32, 3), np.uint8), RequestRejected, "no axis empty"),
        (np.zeros((9, 4, 2, 2, 3), np.uint8), RequestTooLarge, "9 videos in one request, the server takes 8"),
        (np.zeros((301, 2, 2, 3), np.uint8), RequestTooLarge, "301 frames of a video, at most 300"),
        ([np.zeros((32, 32, 3), np.uint8), np.zeros((16, 16, 3), np.uint8)], RequestRejected, "inhomogeneous"),
        (np.broadcast_to(np.uint8(0), (8, 300, 400, 400, 3)), RequestTooLarge, "at most 512 MiB: scale them to 32x32"),
    ],
    ids=["float", "one-frame", "no-frames", "too-many-videos", "too-many-frames", "different-sizes", "too-many-bytes"],
)
def test_frames_that_cannot_be_sent_are_refused_with_the_way_out(
    info: ServerInfo, frames: np.ndarray, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        wire.check_request({"frames": wire.as_batch(frames)}, info, LIMIT)


def features(*shape: int) -> Array:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ({}, RequestRejected, "takes features_a, features_b; given: nothing"),
        ({"features_a": features(1, 1, 4, 3)}, RequestRejected, "takes features_a, features_b; given: features_a"),
        (
            {"features_a": features(1, 1, 4, 5), "features_b": features(1, 1, 4, 5)},
            RequestRejected,
            r"tensor 'features_a' is float32\[1, 1, 4, 5\], required is float32\[B, V, T, 3\]",
        ),
        (
            {"features_a": features(1, 1, 4, 3), "features_b": features(2, 1, 4, 5)},
            RequestRejected,
            r"are not of the same videos: \(B, T\) is \[\(1, 4\), \(2, 4\)\]",
        ),
        ({"features_a": features(9, 1, 4, 3), "features_b": features(9, 1, 4, 5)}, RequestTooLarge, "9 videos"),
        ({"features_a": features(1, 1, 301, 3), "features_b": features(1, 1, 301, 5)}, RequestTooLarge, "301 frames"),
        (
            {"features_a": features(8, 4, 256, 3), "features_b": features(8, 4, 256, 5)},
            RequestTooLarge,
            "0 MiB in one request, at most 0 MiB: send fewer",
        ),
    ],
    ids=["none", "one-missing", "other-width", "different-videos", "too-many-videos", "too-long", "too-many-bytes"],
)
def test_features_that_cannot_be_sent_are_refused_with_the_way_out(
    inputs: dict[str, Array], error: type[Exception], message: str
) -> None:
    parameters = {
        **PARAMETERS,
        **{"kind": "classify_features", "members": "a,b", "feature_dims": "3,5"},
        **{"member_weights": "0.5,0.5", "weights": "x,y"},
    }
    outputs = tuple(BORDERS["classify_features"][1])
    info = handshake.read_config(ModelConfig("both", 8, ("features_a", "features_b"), outputs, parameters), "h:1")
    with pytest.raises(error, match=message):
        wire.check_request(inputs, info, max_bytes=1 << 17)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("127.0.0.1:8001", ("grpc", "127.0.0.1", 8001, "", True)),
        ("localhost:1", ("grpc", "localhost", 1, "", True)),
        ("gpu-7.lan:8001", ("grpc", "gpu-7.lan", 8001, "", False)),
        ("[::1]:8001", ("grpc", "[::1]", 8001, "", True)),
        ("http://127.0.0.1:8000", ("http", "127.0.0.1", 8000, "", True)),
        ("http://gpu-7.lan/", ("http", "gpu-7.lan", 80, "", False)),
        ("https://example.com/models/", ("https", "example.com", 443, "/models", False)),
        ("HTTP://LocalHost:8000", ("http", "localhost", 8000, "", True)),
        ("https://[2001:db8::1]:8443", ("https", "[2001:db8::1]", 8443, "", False)),
    ],
)
def test_addresses_are_taken_apart(url: str, expected: tuple) -> None:
    address = parse_url(url)
    assert (address.scheme, address.host, address.port, address.path, address.is_local) == expected


@pytest.mark.parametrize(
    "url",
    [
        *("host", "host:", ":8001", "a b:1", "host:8001/x", "h:0", "h:65536", "\udcff:1", "", "grpc://h:1", "ftp://h"),
        *("http://", "http://:80", "http://user:pass@host", "http://host:0", "http://h:1/a b", "http://h:1?x=1"),
        *("a..b:1", f"{'a' * 64}:1", "http://a..b:1"),
    ],
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(InvalidUrl, match="write host:port"):
        parse_url(url)


def test_a_proxy_is_not_asked_for_this_machine() -> None:
    assert ("grpc.enable_http_proxy", 0) in _channel_args(parse_url("127.0.0.1:8001"))
    assert ("grpc.enable_http_proxy", 0) not in _channel_args(parse_url("gpu-7:8001"))


def test_headers_are_sent_in_lower_case() -> None:
    assert check_headers({"Authorization": "Bearer x"}) == {"authorization": "Bearer x"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("", "x"), ("a b", "x"), ("ä", "x"), ("a:b", "x"), ("grpc-x", "x"), ("x-bin", "x"), ("x", "a\nb"), ("x", "ä")],
)
def test_headers_that_cannot_be_sent_are_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidOption, match="header"):
        check_headers({name: value})


def test_encryption_and_address_must_agree() -> None:
    assert tls_for(parse_url("h:1"), tls=False) is None
    assert tls_for(parse_url("h:1"), tls=True) == Tls()
    assert tls_for(parse_url("https://h"), tls=False) == Tls()
    with pytest.raises(InvalidUrl, match="is not encrypted: write https://"):
        tls_for(parse_url("http://h"), tls=True)
