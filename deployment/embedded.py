"""Bundles to a supervised server on loopback for as long as a ``with`` block lasts.

with embedded_server([bundle_folder]) as server:
    ...  # server.url is host:port for gRPC
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from reelkind.core import bundle

if TYPE_CHECKING:
    from reelkind.serving.install.environment import Say
    from reelkind.serving.install.runtime import Runtime
    from reelkind.serving.options import ServerOptions
    from reelkind.serving.server import TritonServer

DEFAULT_BUNDLE = "clip"


def default_bundle() -> Path:
    """The bundle that comes with the package."""
    from reelkind import bundles

    return Path(bundles.__file__).with_name(DEFAULT_BUNDLE)


def packaged_bundle(member: str | None) -> Path:
    """The bundle of a member that comes with the package; the default one for others and for None."""
    return next((folder for folder in packaged_bundles() if folder.name == member), default_bundle())


def packaged_bundles() -> list[Path]:
    """All bundles that come with the package, the default one first."""
    default = default_bundle()
    others = (path.parent for path in sorted(default.parent.glob(f"*/{bundle.MANIFEST_NAME}")))
    return [default, *(folder for folder in others if folder != default)]


@contextmanager
def temporary_repository(
    bundle_folders: Sequence[str | os.PathLike[str]],
    runtime: Runtime,
    *,
    flavour: str = "auto",
    num_threads: int | None = None,
    engines: Path | None = None,
    max_queue: int | None = None,
    ensembles: Collection[str] | None = None,
    precision: str = "auto",
) -> Iterator[Path]:
    """Ensembles of these bundles, written into a new folder that is gone after the ``with`` block.

    Args:
        bundle_folders: the members, the default one first.
        runtime: the server that will read it.
        flavour: who executes the graphs, one of ``export.repository.execution.FLAVOURS``; "auto" asks the runtime.
        num_threads: CPU threads inside one operator; None takes all cores.
        engines: folder of engines built on this card, for the flavour that runs them.
        max_queue: requests that may wait for a backbone; None for the default of the flavour.
        ensembles: names, see ``core.specs.classify_name``; all there are by default.
        precision: of backbones on a CPU, one of ``export.repository.execution.CPU_PRECISIONS``.

    Raises:
        ReelkindError: if a bundle is of no use or the runtime cannot execute the flavour.
    """
    from reelkind.export.repository.repository import standard_ensembles, write_repository

    members = [bundle.load(folder) for folder in bundle_folders]
    chosen, wanted = runtime.choose_flavour(flavour), standard_ensembles(members, ensembles)
    folder = Path(tempfile.mkdtemp(prefix="reelkind-models-"))
    try:
        write_repository(
            folder,
            wanted,
            members,
            chosen,
            num_threads=num_threads,
            engines=engines,
            max_queue=max_queue,
            precision=precision,
        )
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def embedded_server(
    bundle_folders: Sequence[str | os.PathLike[str]] = (),
    *,
    ensembles: Collection[str] | None = None,
    num_threads: int | None = None,
    progress: Say | None = None,
    options: ServerOptions | None = None,
) -> Iterator[TritonServer]:
    """Serve bundles on free loopback ports; all processes and files of it are gone afterwards.

    Args:
        bundle_folders: members; the packaged one if empty.
        ensembles: names of those the run needs, see ``core.specs.classify_name``: each model is a process, so fewer
            start sooner; all there are by default.
        num_threads: CPU threads inside one operator; None takes all cores.
        progress: called with one line at each slow step of a first start.
        options: what the server offers beyond answers.

    Raises:
        ReelkindError: one sentence, if there is no such bundle or the server does not start.
    """
    from reelkind.serving.install.runtime import find_runtime
    from reelkind.serving.server import TritonServer

    folders = list(bundle_folders) or [default_bundle()]
    for folder in folders:
        bundle.load(folder)  # a wrong folder is said before a server is downloaded
    runtime = find_runtime(progress)
    with temporary_repository(folders, runtime, num_threads=num_threads, ensembles=ensembles) as repository:
        server = TritonServer(
            repository,
            runtime=runtime,
            grpc_port=0,
            http_port=0,
            metrics_port=0,
            owned=[repository],
            options=options,
        )
        with server:
            yield server
