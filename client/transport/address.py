"""Where a server is and how it is spoken to: addresses, headers and certificates, checked before anything is sent."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .errors import InvalidOption, InvalidUrl, TlsFailed

_URL = re.compile(r"(?:((?i:https?))://)?(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]@?#]+)(?::([0-9]{1,5}))?(/[!-~]*)?")
_HEADER_NAME = re.compile(r"[0-9a-z_.-]+")  # of gRPC; HTTP allows more
_FRAMING = re.compile(
    "(accept|content|transfer)-encoding|(inference-header-)?content-length|connection|expect|te|upgrade"
)
"""Headers that say how a request is sent, which is not for the caller to say."""
_DNS = "dns:///"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LOCAL_HOSTS = ("localhost", "[::1]")


@dataclass(frozen=True)
class Address:
    """A parsed URL.

    Attributes:
        url: as the user wrote it.
        scheme: ``grpc``, ``http`` or ``https``.
        host: IPv6 in brackets.
        path: prefix of all paths under HTTP, without a slash at its end.
        name: that ``host`` is one address of, which certificates are made out to; empty if it is ``host`` itself.
    """

    url: str
    scheme: str
    host: str
    port: int
    path: str
    name: str = ""

    @property
    def is_local(self) -> bool:
        """Whether it names this machine."""
        return self.host.startswith("127.") or self.host in _LOCAL_HOSTS


@dataclass(frozen=True)
class Target:
    """Where the servers are that a client takes turns with.

    Attributes:
        url: as the user wrote it.
        addresses: of the servers; empty if ``lookup`` tells.
        lookup: a name whose addresses are servers, each time it is looked up.
    """

    url: str
    addresses: tuple[Address, ...]
    lookup: Address | None = None

    @property
    def first(self) -> Address:
        """One address, whose scheme is that of all."""
        return self.lookup or self.addresses[0]

    @property
    def is_single(self) -> bool:
        """Whether there is one server, and no other ever."""
        return len(self.addresses) == 1


def parse_target(url: str) -> Target:
    """Take apart one address, several with commas between them, or ``dns:///name:port``.

    Raises:
        InvalidUrl: if it is none of these, or their protocols differ.
    """
    if url.lower().startswith(_DNS):
        lookup = parse_url(url[len(_DNS) :])
        if lookup.scheme != "grpc":
            raise InvalidUrl(f"{url!r}: dns:/// is for gRPC: write dns:///name:port of the servers' gRPC port")
        return Target(url, (), lookup)
    addresses = tuple(dict.fromkeys(parse_url(part.strip()) for part in url.split(",")))
    if len({address.scheme for address in addresses}) > 1:
        raise InvalidUrl(f"{url!r} mixes protocols: name several servers by gRPC, or all by HTTP")
    return Target(url, addresses)


def parse_url(url: str) -> Address:
    """Take apart ``host:port`` (gRPC), ``http://host:port`` or ``https://host:port``.

    Raises:
        InvalidUrl: if it is none of these.
    """
    found = _URL.fullmatch(url)
    if found and url.isprintable():
        scheme, host, port, path = found.groups()
        scheme, host = scheme and scheme.lower(), host.lower()
        number = int(port) if port else _DEFAULT_PORTS.get(scheme, 0)
        if 1 <= number <= 65535 and (scheme or not path) and _is_host(host):
            return Address(url, scheme or "grpc", host, number, (path or "").rstrip("/"))
    raise InvalidUrl(
        f"{url!r} is not an address: write host:port of the server's gRPC port, e.g. 127.0.0.1:8001, "
        "or http://host:port of its HTTP port, e.g. http://127.0.0.1:8000"
    )


def _is_host(host: str) -> bool:
    try:
        return bool(host.encode("idna"))  # labels of 1 to 63 letters
    except UnicodeError:
        return False


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers in lower case, as gRPC wants them.

    Raises:
        InvalidOption: if one cannot be sent.
    """
    checked = {name.lower(): value for name, value in headers.items()}
    for name, value in checked.items():
        if not _HEADER_NAME.fullmatch(name) or name.startswith("grpc-"):
            raise InvalidOption(f"{name!r} cannot be the name of a header: letters, digits, '-', '_' and '.' only")
        if _FRAMING.fullmatch(name):
            raise InvalidOption(f"the header {name!r} cannot be given: it says how requests are sent")
        if not (value.isascii() and value.isprintable()) or name.endswith("-bin"):
            raise InvalidOption(f"the value of the header {name!r} cannot be sent: printable ASCII only")
    return checked


@dataclass(frozen=True)
class Tls:
    """Files of an encrypted connection, in PEM.

    Attributes:
        ca_file: certificates of authorities to trust; by default the well-known ones.
        cert_file: this client's own certificate, for servers that ask for one.
        key_file: the unencrypted private key of ``cert_file``.
    """

    ca_file: str | os.PathLike[str] | None = None
    cert_file: str | os.PathLike[str] | None = None
    key_file: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if (self.cert_file is None) != (self.key_file is None):
            raise InvalidOption(
                "a certificate and its key go together: give both cert_file and key_file (--tls-cert and --tls-key)"
            )

    @cached_property
    def context(self) -> ssl.SSLContext:
        """The files, read and checked.

        Raises:
            TlsFailed: if one cannot be read or is of no use.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise TlsFailed(f"{self.ca_file}: no certificates can be read: {_reason(error)}") from error
        if self.cert_file is not None:
            try:
                context.load_cert_chain(self.cert_file, self.key_file, password=lambda: "")  # never ask a terminal
            except (OSError, ValueError) as error:
                files = f"{self.cert_file}, {self.key_file}"
                raise TlsFailed(f"{files}: no certificate with its unencrypted key: {_reason(error)}") from error
        return context

    def read(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """The files' bytes: authorities, key, certificate.

        Raises:
            TlsFailed: as ``context``.
        """
        _ = self.context  # gRPC would notice at the first call, and say less
        files = (self.ca_file, self.key_file, self.cert_file)
        authorities, key, certificate = (None if file is None else Path(file).read_bytes() for file in files)
        return authorities, key, certificate


def tls_for(address: Address, tls: bool | Tls) -> Tls | None:
    """What is needed to encrypt the connection, None if it is not to be.

    Raises:
        InvalidUrl: if address and wish contradict each other.
    """
    if address.scheme == "http" and tls:
        raise InvalidUrl(f"{address.url} is not encrypted: write https://, or leave TLS out")
    if isinstance(tls, Tls):
        return tls
    return Tls() if tls or address.scheme == "https" else None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
