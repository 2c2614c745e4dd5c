"""A video from a URL to disk, from public addresses only.

The name is resolved once, every address it has must be public, and the connection goes to the address that was checked:
a name that answers differently the next time gains nothing. Each redirect is checked in the same way.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urljoin, urlsplit

from ..jobs.files import TooLargeError, Upload
from .content import FEATURES_TYPE, NotAVideoError, media_type_of

MAX_REDIRECTS = 5
TIMEOUT_S = 10.0  # of each step
TOTAL_S = 600.0
PORTS = {"http": 80, "https": 443}
_CHUNK_BYTES = 1 << 18
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

Allowed = Callable[[str], bool]
Resolve = Callable[[str, int], list[str]]


class FetchError(Exception):
    """The URL is refused or gives no video; ``str()`` is a sentence for who named it."""


@dataclass(frozen=True)
class Fetched:
    """A file that was kept."""

    sha256: str
    media_type: str


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is not None:
            return is_public(str(inner))
        if ip in ipaddress.ip_network("64:ff9b::/96"):  # NAT64: the last 32 bits are an IPv4 address
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
    return ip.is_global and not ip.is_multicast


def resolve(host: str, port: int) -> list[str]:
    """All addresses of a name."""
    return list(dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


def check_url(url: str, ports: dict[str, int] | None = None) -> SplitResult:
    """Take apart what may be fetched at all.

    Raises:
        FetchError: if it is no address of the web, has credentials in it, or names an unusual port.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise FetchError("This is no address of the web: it begins with https:// or http://.") from None
    if parts.scheme not in PORTS or not parts.hostname:
        raise FetchError("This is no address of the web: it begins with https:// or http://.")
    if parts.username or parts.password:
        raise FetchError("Addresses with a user name or a password in them are not fetched.")
    if port is not None and port != (ports or PORTS).get(parts.scheme):
        raise FetchError(f"Only the usual ports are fetched from, not {port}.")
    return parts


def fetch(
    url: str,
    folder: Path,
    max_bytes: int,
    *,
    allowed: Allowed = is_public,
    resolver: Resolve = resolve,
    ports: dict[str, int] | None = None,
) -> Fetched:
    """Download a video among the uploads.

    Args:
        url: http or https.
        folder: of uploads.
        max_bytes: of the file.
        allowed: which addresses may be connected to.
        resolver: host and port to addresses.
        ports: scheme -> the port that may be named.

    Raises:
        FetchError: if it is refused, too large, no video, or does not come.
    """
    deadline = time.monotonic() + TOTAL_S
    for _ in range(MAX_REDIRECTS + 1):
        parts = check_url(url, ports)
        connection = _connect(parts, allowed, resolver)
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", path, headers={"User-Agent": "reelkind", "Accept": "video/*, image/*"})
            response = connection.getresponse()
            if response.status in _REDIRECTS:
                url = urljoin(url, response.getheader("Location", ""))
                continue
            if response.status != 200:
                raise FetchError(f"{parts.hostname} answered {response.status} {response.reason}: check the address.")
            return _keep(response, folder, max_bytes, deadline)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise FetchError(f"{parts.hostname} did not answer as it should ({type(error).__name__}).") from error
        finally:
            connection.close()
    raise FetchError("The address leads from one to the next without end.")


def _connect(parts: SplitResult, allowed: Allowed, resolver: Resolve) -> http.client.HTTPConnection:
    """Connect to an address that was checked, under the name that was asked for."""
    host = parts.hostname or ""
    port = parts.port or PORTS[parts.scheme]
    try:
        addresses = resolver(host, port)
    except (OSError, UnicodeError):
        raise FetchError(f"There is no host called {host}: check the address.") from None
    if not addresses or not all(allowed(address) for address in addresses):
        raise FetchError(f"{host} is an address of a private network, from which nothing is fetched.")
    try:
        raw = socket.create_connection((addresses[0], port), TIMEOUT_S)
    except OSError as error:
        raise FetchError(f"{host} cannot be reached: {error.strerror or 'no answer'}.") from None
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    if parts.scheme == "https":
        try:
            raw = ssl.create_default_context().wrap_socket(raw, server_hostname=host)
        except OSError:
            raw.close()
            raise FetchError(f"{host} does not prove who it is: its certificate is not good.") from None
    connection.sock = raw
    return connection


def _keep(response: http.client.HTTPResponse, folder: Path, max_bytes: int, deadline: float) -> Fetched:
    upload = Upload(folder, max_bytes)
    try:
        while chunk := response.read1(_CHUNK_BYTES):
            upload.write(chunk)
            if time.monotonic() > deadline:
                raise FetchError(f"The download took longer than {TOTAL_S / 60:.0f} minutes and was given up.")
        media_type = media_type_of(upload.head)
        if media_type == FEATURES_TYPE:
            raise FetchError("This address leads to a features file, not to a video: upload it instead.")
        return Fetched(upload.keep(is_features=False), media_type)
    except TooLargeError:
        raise FetchError(f"The file is larger than {max_bytes / 2**20:.0f} MB, which is the most taken here.") from None
    except NotAVideoError as error:
        raise FetchError(f"What this address leads to {error}.") from None
    finally:
        upload.close()
