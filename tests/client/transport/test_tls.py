"""Encrypted connections over gRPC and HTTP: whom the client trusts, what it shows, and what it says when it fails."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import grpc
import numpy as np
import pytest
from http_standin import HttpStandin
from standin import StandinServer

from reelkind.client import AsyncClient, Client, ClientError, InvalidOption, Prediction, Tls, TlsFailed

trustme = pytest.importorskip("trustme", reason="certificates are made with trustme")

FRAMES = np.zeros((4, 32, 32, 3), np.uint8)


class Certificates:
    """Certificates of one authority, and another authority that nobody knows."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.server = authority.issue_cert("127.0.0.1")
        self.expired = authority.issue_cert("127.0.0.1", not_after=datetime(2020, 1, 2, tzinfo=UTC))
        self.elsewhere = authority.issue_cert("gpu-7.lan")
        own = authority.issue_cert("client@example.org")
        self.ca, self.other_ca, self.cert, self.key = (folder / name for name in ("ca", "other", "cert", "key"))
        authority.cert_pem.write_to_path(self.ca)
        trustme.CA().cert_pem.write_to_path(self.other_ca)
        own.cert_chain_pems[0].write_to_path(self.cert)
        own.private_key_pem.write_to_path(self.key)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@contextmanager
def served(protocol: str, certificates: Certificates, certificate: str = "server", *, mutual=False) -> Iterator[str]:
    """A stand-in server with one of the certificates; ``mutual`` if it asks for the client's. Yields its address."""
    shown = getattr(certificates, certificate)
    if protocol == "http":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates.ca)
        shown.configure_cert(context)
        context.verify_mode = ssl.CERT_REQUIRED if mutual else ssl.CERT_NONE
        server = HttpStandin(context)
    else:
        pair = (shown.private_key_pem.bytes(), shown.cert_chain_pems[0].bytes())
        server = StandinServer()
        server.start(
            credentials=grpc.ssl_server_credentials(
                [pair], certificates.ca.read_bytes() if mutual else None, require_client_auth=mutual
            )
        )
    try:
        yield server.url
    finally:
        server.stop()


@pytest.fixture(params=["grpc", "http"])
def protocol(request: pytest.FixtureRequest) -> str:
    return request.param


def ask(url: str, tls: bool | Tls) -> Prediction:
    with Client(url, tls=tls, retry_s=0, timeout_s=10) as client:
        answer = client.classify_frames(FRAMES)
    assert isinstance(answer, Prediction)
    return answer


def test_a_known_authority_is_trusted(protocol: str, certificates: Certificates) -> None:
    async def ask_async() -> object:
        async with AsyncClient(url, tls=Tls(certificates.ca)) as client:
            return await client.classify_frames(FRAMES)

    with served(protocol, certificates) as url:
        assert ask(url, Tls(certificates.ca)).label is not None
        assert isinstance(asyncio.run(ask_async()), Prediction)


def test_a_server_may_ask_for_the_clients_certificate(protocol: str, certificates: Certificates) -> None:
    with served(protocol, certificates, mutual=True) as url:
        assert ask(url, Tls(certificates.ca, certificates.cert, certificates.key)).label is not None
        with pytest.raises(ClientError, match="asks for a certificate"):
            ask(url, Tls(certificates.ca))


@pytest.mark.parametrize("files", ["well-known", "other"])
def test_an_unknown_authority_is_not_trusted(protocol: str, certificates: Certificates, files: str) -> None:
    with served(protocol, certificates) as url, pytest.raises(TlsFailed, match="not from an authority that is trusted"):
        ask(url, True if files == "well-known" else Tls(certificates.other_ca))


def test_a_certificate_of_another_host_is_not_trusted(protocol: str, certificates: Certificates) -> None:
    with served(protocol, certificates, "elsewhere") as url, pytest.raises(TlsFailed, match="made out to another host"):
        ask(url, Tls(certificates.ca))


def test_a_certificate_that_has_expired_is_said(protocol: str, certificates: Certificates) -> None:
    with (
        served(protocol, certificates, "expired") as url,
        pytest.raises(TlsFailed, match="its certificate has expired"),
    ):
        ask(url, Tls(certificates.ca))


def test_a_server_that_does_not_encrypt_is_said(
    certificates: Certificates, standin: StandinServer, http_standin: HttpStandin
) -> None:
    for url in (standin.url, http_standin.url.replace("http://", "https://")):
        with pytest.raises(TlsFailed, match="it does not encrypt"):
            ask(url, Tls(certificates.ca))


def test_a_client_that_does_not_encrypt_is_said(certificates: Certificates) -> None:
    with served("grpc", certificates) as url, pytest.raises(ClientError, match=r"perhaps it .* encrypts"):
        ask(url, False)
    with served("http", certificates) as url, pytest.raises(ClientError, match=url.replace("https", "http")):
        ask(url.replace("https://", "http://"), False)


def test_failed_handshakes_are_not_retried(protocol: str, certificates: Certificates) -> None:
    with served(protocol, certificates) as url, Client(url, tls=Tls(certificates.other_ca), retry_s=60) as client:
        client._session._connected = True
        with pytest.raises(TlsFailed):
            client.classify_frames(FRAMES)
        with pytest.raises(TlsFailed):
            client.wait_until_ready(60)
        assert not client.is_ready()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("nope.pem", None, None), "nope.pem: no certificates can be read: No such file"),
        (("key", None, None), "key: no certificates can be read"),
        ((".", None, None), "no certificates can be read: Is a directory"),
        (("ca", "nope.pem", "key"), "nope.pem, .*key: no certificate with its unencrypted key: No such file"),
        (("ca", "key", "cert"), "no certificate with its unencrypted key"),
        (("ca", "other", "key"), "no certificate with its unencrypted key"),
        (("ca", "cert", "locked"), "no certificate with its unencrypted key"),
    ],
    ids=["missing", "no-certificate", "folder", "own-missing", "swapped", "of-others", "locked-key"],
)
def test_files_of_no_use_are_named_before_anything_is_sent(
    protocol: str, certificates: Certificates, files: tuple, message: str
) -> None:
    folder = certificates.ca.parent
    locked = folder / "locked"
    if not locked.exists():
        write_locked_key(certificates.key, locked)
    paths = [None if name is None else folder / name for name in files]
    with pytest.raises(TlsFailed, match=message):
        Client("h:1" if protocol == "grpc" else "https://h:1", tls=Tls(*paths))


def write_locked_key(key: Path, locked: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    how = serialization.BestAvailableEncryption(b"secret")
    formats = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    locked.write_bytes(loaded.private_bytes(*formats, how))


def test_a_certificate_needs_its_key() -> None:
    with pytest.raises(InvalidOption, match="give both cert_file and key_file"):
        Tls(cert_file="cert.pem")
