"""Files to URIs of three kinds: a third of them on this machine, a third at a file server, a third in S3."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from reelkind.serving.ports import LOOPBACK

_BUCKET = "videos"
_KEY, _SECRET, _REGION = "key", "secret", "us-east-1"  # moto takes any


@dataclass(frozen=True)
class Stores:
    """Where files can be fetched from.

    Attributes:
        files: URI -> the file that is there.
        variables: of processes that fetch: S3's address, region and keys.
    """

    files: Mapping[str, Path]
    variables: Mapping[str, str]


@contextmanager
def spread(paths: Sequence[Path]) -> Iterator[Stores]:
    """Servers on loopback, S3's by moto, for as long as the block lasts.

    Args:
        paths: in one folder; their order is that of the URIs.
    """
    folder = paths[0].parent
    with _file_server(folder) as address, _s3(paths[2::3]) as endpoint:
        places = (str(folder), address, f"s3://{_BUCKET}")
        variables = {"AWS_ACCESS_KEY_ID": _KEY, "AWS_SECRET_ACCESS_KEY": _SECRET, "AWS_REGION": _REGION}
        yield Stores(
            {f"{places[number % 3]}/{path.name}": path for number, path in enumerate(paths)},
            {**variables, "AWS_ENDPOINT_URL": endpoint},
        )


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _file_server(folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer((LOOPBACK, 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://{LOOPBACK}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def _s3(paths: Sequence[Path]) -> Iterator[str]:
    """Address of a server that has these files in its bucket."""
    from moto.server import ThreadedMotoServer
    from pyarrow.fs import S3FileSystem

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else a line a request
    server = ThreadedMotoServer(ip_address=LOOPBACK, port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        store = S3FileSystem(
            access_key=_KEY,
            secret_key=_SECRET,
            region=_REGION,
            scheme="http",
            endpoint_override=f"{host}:{port}",
            allow_bucket_creation=True,
        )
        store.create_dir(_BUCKET)
        for path in paths:
            with store.open_output_stream(f"{_BUCKET}/{path.name}") as file:
                file.write(path.read_bytes())
        yield f"http://{host}:{port}"
    finally:
        server.stop()
