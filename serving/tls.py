"""Certificate files to a TLS server that can be asked for answers by its own supervisor.

tritonserver encrypts gRPC. Whoever watches it on this machine trusts exactly its certificate, whatever name that is
made out to, and shows the same certificate where clients must show one.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ServingError

_PEM_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_HANDSHAKE_ROUNDS = 10
_CONNECT_S = 5.0


@dataclass(frozen=True)
class ServerTls:
    """PEM files of a server.

    Attributes:
        certificate: its certificate, followed by those between it and the root if there are any.
        key: the private key, without a passphrase.
        client_ca: clients must show a certificate that one of these has signed; None lets everybody in.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @property
    def leaf(self) -> bytes:
        """The server's own certificate, PEM.

        Raises:
            ServingError: if the file cannot be read or holds none.
        """
        return _certificates(self.certificate)[0]

    def check(self) -> str:
        """Shake hands with itself in memory, as the supervisor will with the server.

        Returns:
            A host name that the certificate is made out to.

        Raises:
            ServingError: naming the file that is no good, and why.
        """
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        for context in (server, client):
            self._load_own(context)
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the certificate itself is the root
        client.load_verify_locations(cadata=self.leaf.decode("ascii"))
        if self.client_ca is not None:
            server.verify_mode = ssl.CERT_REQUIRED
            try:
                server.load_verify_locations(cadata=self.client_roots().decode("ascii"))
            except ssl.SSLError:
                raise ServingError(f"{self.client_ca} holds a damaged certificate") from None
        try:
            subject = _shake_hands(server, client)
        except ssl.SSLError as error:
            raise ServingError(self._refusal(error)) from None
        return _name_of(subject, self.certificate)

    def client_roots(self) -> bytes:
        """PEM of who may sign clients' certificates; the server's own is one, for the supervisor."""
        assert self.client_ca is not None
        return b"\n".join([*_certificates(self.client_ca), self.leaf])

    def credentials(self) -> dict[str, Any]:
        """Arguments of tritonclient's gRPC client, for a client on this machine.

        Raises:
            ServingError: as ``check`` does.
        """
        import grpc

        name = self.check()
        own = (_read(self.key), _read(self.certificate)) if self.client_ca else (None, None)
        # 127.0.0.1 is not what the certificate says; that it is this very certificate is all that counts here.
        return {
            "ssl": True,
            "creds": grpc.ssl_channel_credentials(self.leaf, *own),
            "channel_args": [("grpc.ssl_target_name_override", name)],
        }

    def require_shown(self, url: str) -> None:
        """Refuse to go on with files that were renewed after the server had read them.

        Args:
            url: ``host:port`` of the server; one that does not answer is let pass, whoever asks it will say so.

        Raises:
            ServingError: if it shows another certificate than the file holds.
        """
        host, _, port = url.rpartition(":")
        try:
            shown = ssl.get_server_certificate((host, int(port)), timeout=_CONNECT_S)
        except OSError:
            return
        if ssl.PEM_cert_to_DER_cert(shown) != ssl.PEM_cert_to_DER_cert(self.leaf.decode("ascii")):
            raise ServingError(
                f"{self.certificate} was renewed after the server at {url} had read it: start the server again first"
            )

    def _load_own(self, context: ssl.SSLContext) -> None:
        for path in (self.certificate, self.key):
            _read(path)  # says which one is missing
        try:
            context.load_cert_chain(self.certificate, self.key, password=lambda: "")
        except (ssl.SSLError, ValueError):
            raise ServingError(
                f"{self.certificate} and {self.key} are no certificate with its private key "
                "(PEM, the key without a passphrase)"
            ) from None

    def _refusal(self, error: ssl.SSLError) -> str:
        reason = getattr(error, "verify_message", "") or error.reason or str(error)
        if "purpose" in reason:
            return (
                f"{self.certificate} may not be shown by a client, as the server's own supervisor does where clients "
                "must show one: its extendedKeyUsage needs serverAuth and clientAuth"
            )
        return f"{self.certificate} cannot be used: {reason}"


def _certificates(path: Path) -> list[bytes]:
    found = _PEM_CERTIFICATE.findall(_read(path))
    if not found:
        raise ServingError(f"{path} holds no certificate in PEM format")
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ServingError(f"{path} cannot be read: {error.strerror}") from None


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, Any]:
    """What the client learns of the server's certificate."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)]
    for _ in range(_HANDSHAKE_ROUNDS):
        waiting = []
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                waiting.append(end)
        if not waiting:
            break
    subject = ends[0].getpeercert()
    assert subject is not None
    return subject


def _name_of(subject: dict[str, Any], path: Path) -> str:
    names = [value for kind, value in subject.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    if not names:
        raise ServingError(f"{path} is made out to no host: it needs a subjectAltName")
    return str(names[0]).replace("*", "reelkind", 1)  # any host that a wildcard stands for
