"""``reelkind promote``: a bundle to the new version of a member on a running server, or back to the one before."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from reelkind.core import bundle as bundles

from .options.arguments import UsageError
from .options.bundles import load_all
from .options.connecting import URL_VARIABLE
from .output.talk import EXIT_OK

if TYPE_CHECKING:
    from reelkind.core.bundle import Bundle
    from reelkind.deployment.versions import VersionedRepository
    from reelkind.serving.control import Control
    from reelkind.serving.state import RunningServer


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the subcommand."""
    parser = subparsers.add_parser(
        "promote",
        help="load a new version of a member into a running server",
        description="Load a new version of a member beside the served one, check it on a few clips, let every ensemble "
        "with this member answer with it, and unload the old one. No request goes unanswered; whatever fails is "
        "undone. It lasts as long as the repository does: `reelkind serve --bundle` starts with its bundle again.",
    )
    parser.add_argument("bundle", nargs="?", type=Path, metavar="BUNDLE", help="folder of the new version")
    parser.add_argument("--rollback", action="store_true", help="go back to the version before; twice comes back")
    parser.add_argument(
        "--url",
        default=os.environ.get(URL_VARIABLE) or "127.0.0.1:8001",
        metavar="HOST:PORT",
        help="gRPC of the server; one that `reelkind serve` runs here for you is found by it "
        f"(default: ${URL_VARIABLE}, else 127.0.0.1:8001)",
    )
    parser.add_argument(
        "--repository", type=Path, metavar="DIR", help="models of a server started otherwise, e.g. in a container"
    )
    parser.add_argument(
        "--other",
        action="append",
        type=Path,
        default=[],
        metavar="DIR",
        help="with --repository: bundle of a member that the new one is averaged with; again for more",
    )
    parser.add_argument(
        "--clips", nargs="+", type=Path, metavar="PATH", help="videos or folders to check it on (default: the samples)"
    )
    parser.add_argument("--engines", type=Path, metavar="DIR", help="TensorRT engines of the new version")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Promote or roll back."""
    if (args.bundle is None) != args.rollback:
        raise UsageError("give either a BUNDLE or --rollback")
    from reelkind.deployment.versions import VersionedRepository
    from reelkind.serving.control import Control

    bundle = load_all([args.bundle])[0] if args.bundle else None  # a wrong folder is said before anything else
    running = _running(args)
    store = VersionedRepository(Path(running.repository))
    if running.tls:
        running.tls.require_shown(running.url)
    control = Control(running.url, running.key, running.tls)
    try:
        with store.lock():
            if bundle is None:
                _roll_back(args, control, store)
            else:
                _promote(args, bundle, running, control, store)
    finally:
        control.close()
    return EXIT_OK


def _promote(
    args: argparse.Namespace, bundle: Bundle, running: RunningServer, control: Control, store: VersionedRepository
) -> None:
    from reelkind.core.specs import FP16_TOLERANCE, FP32_TOLERANCE, INT8
    from reelkind.deployment.check import ClipCheck, read_clips
    from reelkind.deployment.files import ENGINE_NAME, served_precision, version_files
    from reelkind.deployment.member_configs import deployed_member, neighbours, with_bundle
    from reelkind.deployment.promote import promote
    from reelkind.serving.state import remember_bundle

    clips = read_clips(args.clips, bundle.num_frames, bundle.backbone.frame_size_px)
    concerned = deployed_member(store, bundle)
    others = neighbours(concerned, bundle, [*map(bundles.load, args.other), *_remembered(running)])
    files = version_files(store.folder, concerned, bundle, others, args.engines)
    precision = served_precision(concerned, bundle.name)
    as_engines = any(ENGINE_NAME in content for content in files.values())
    check = ClipCheck(clips, bundle, FP16_TOLERANCE if as_engines or precision == INT8 else FP32_TOLERANCE, precision)
    versions = promote(control, store, with_bundle(concerned, store.ensembles(), bundle), files, check)
    assert bundle.folder is not None
    print(check.report())
    print(f"promoted: {', '.join(f'{model} {version}' for model, version in versions.items())}", flush=True)
    remember_bundle(running, bundle.name, bundle.folder)


def _remembered(running: RunningServer) -> Iterator[Bundle]:
    """Bundles that have been served, as they lie there now; those that do not any more may not be needed."""
    for folder in chain(*(running.folders or {}).values()):
        with suppress(bundles.BundleError):
            bundle = bundles.load(folder)
            bundles.weights_hash(bundle)  # says whether its weights are there
            yield bundle


def _roll_back(args: argparse.Namespace, control: Control, store: VersionedRepository) -> None:
    from reelkind.deployment.check import ClipCheck, read_clips
    from reelkind.deployment.member_configs import plainest_changed
    from reelkind.deployment.promote import roll_back

    asked = plainest_changed(store).parameters  # of the member that changes, whoever is the default one
    frames, size = (int(asked[key].string_value) for key in ("num_frames", "frame_size_px"))
    check = ClipCheck(read_clips(args.clips, frames, size))
    versions = roll_back(control, store, check)
    print(check.report())
    print(f"rolled back: {', '.join(f'{model} {version}' for model, version in versions.items())}")


def _running(args: argparse.Namespace) -> RunningServer:
    from reelkind.serving.errors import ServingError
    from reelkind.serving.state import RunningServer, find_running

    running = find_running(args.url)
    if args.repository is not None:
        same = running is not None and args.repository.resolve() == Path(running.repository).resolve()
        return running if running is not None and same else RunningServer(args.url, str(args.repository.absolute()))
    if running is None:
        raise ServingError(
            f"no server that you started with `reelkind serve` on this machine answers at {args.url}: "
            "say --url, or for a server in a container --url and --repository"
        )
    return running
