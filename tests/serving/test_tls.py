"""Certificates before a server starts, and a real server behind them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
import tritonclient.grpc as triton
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from tritonclient.utils import InferenceServerException

from reelkind.serving.errors import ServingError
from reelkind.serving.options import ServerOptions
from reelkind.serving.server import TritonServer
from reelkind.serving.tls import ServerTls

from . import tiny_repository

FREE = {"grpc_port": 0, "http_port": 0, "metrics_port": 0}
HOST = "reelkind.example"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority, tmp_path_factory) -> ServerTls:
    return write(authority.issue_cert(HOST), tmp_path_factory.mktemp("tls"))


def write(certificate: trustme.LeafCert, folder: Path, client_ca: Path | None = None) -> ServerTls:
    chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
    (folder / "server.pem").write_bytes(chain)
    certificate.private_key_pem.write_to_path(folder / "server.key")
    return ServerTls(folder / "server.pem", folder / "server.key", client_ca)


def test_certificate_that_fits_its_key_tells_its_host(files):
    assert files.check() == HOST


def test_wildcard_stands_for_some_host(authority, tmp_path):
    assert write(authority.issue_cert("*.example.org"), tmp_path).check() == "reelkind.example.org"


def test_key_of_another_certificate_is_refused(files, authority, tmp_path):
    other = write(authority.issue_cert(HOST), tmp_path)
    with pytest.raises(ServingError, match=r"server\.pem and .*server\.key are no certificate with its private key"):
        ServerTls(files.certificate, other.key).check()


@pytest.mark.parametrize("name", ["certificate", "key", "client_ca"])
def test_missing_file_is_named(files, name, tmp_path):
    paths = {"certificate": files.certificate, "key": files.key, "client_ca": None} | {name: tmp_path / "nowhere.pem"}
    with pytest.raises(ServingError, match=r"nowhere\.pem cannot be read: No such file"):
        ServerTls(**paths).check()


def test_client_ca_that_is_none_is_refused(files):
    with pytest.raises(ServingError, match=r"server\.key holds no certificate in PEM format"):
        ServerTls(files.certificate, files.key, files.key).check()


def test_certificate_for_servers_only_cannot_stand_where_clients_show_one(authority, tmp_path):
    files = server_only(authority, tmp_path)
    assert files.check() == HOST
    authority.cert_pem.write_to_path(tmp_path / "clients.pem")
    with pytest.raises(ServingError, match="extendedKeyUsage needs serverAuth and clientAuth"):
        ServerTls(files.certificate, files.key, tmp_path / "clients.pem").check()


def server_only(authority: trustme.CA, folder: Path) -> ServerTls:
    """A certificate that public authorities give: good for servers, not for clients."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(hours=1))
        .not_valid_after(datetime.now(UTC) + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(load_pem_private_key(authority.private_key_pem.bytes(), None), hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "server.pem").write_bytes(made.public_bytes(pem))
    private = serialization.PrivateFormat.PKCS8
    (folder / "server.key").write_bytes(key.private_bytes(pem, private, serialization.NoEncryption()))
    return ServerTls(folder / "server.pem", folder / "server.key")


@pytest.mark.triton
def test_server_lets_in_clients_with_a_certificate_and_nobody_else(triton_runtime, authority, tmp_path):
    clients = trustme.CA()
    clients.cert_pem.write_to_path(tmp_path / "clients.pem")
    tls = write(authority.issue_cert(HOST), tmp_path, tmp_path / "clients.pem")
    repository = tiny_repository.write(tmp_path / "models")
    with TritonServer(repository, runtime=triton_runtime, options=ServerOptions(tls=tls), **FREE) as server:
        assert is_live(server.url, authority, clients.issue_cert("user@example.org"))
        assert not is_live(server.url, authority, None)
        assert not is_live(server.url, authority, trustme.CA().issue_cert("user@example.org"))
        with urllib.request.urlopen(f"{server.http_url}/v2/health/ready", timeout=60) as answer:
            assert answer.status == 200
        request = urllib.request.Request(
            f"{server.http_url}/v2/models/classify/infer", json.dumps({"inputs": []}).encode(), method="POST"
        )
        with pytest.raises(urllib.error.HTTPError, match="403"):  # what is not encrypted takes no videos
            urllib.request.urlopen(request, timeout=60)
        server._supervisor._next_canary = 0.0
        server.wait(1.0)  # the supervisor's own questions pass the door, too


def is_live(url: str, authority: trustme.CA, client: trustme.LeafCert | None) -> bool:
    own = (client.private_key_pem.bytes(), client.cert_chain_pems[0].bytes()) if client else (None, None)
    credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes(), *own)
    options = [("grpc.ssl_target_name_override", HOST)]
    with triton.InferenceServerClient(url, ssl=True, creds=credentials, channel_args=options) as client_of:
        try:
            return client_of.is_server_live(client_timeout=60)
        except InferenceServerException:
            return False
