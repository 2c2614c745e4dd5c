"""``reelkind serve``: bundles to a supervised tritonserver that runs until it is told to stop."""

from __future__ import annotations

import argparse
import os
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from reelkind.core import bundle
from reelkind.deployment.embedded import default_bundle, temporary_repository

from .options.arguments import MAX_QUEUE_HELP, UsageError, add_precision, positive
from .options.server import add_option_arguments, prepare_response_cache, server_options
from .output.talk import EXIT_FAILED, EXIT_OK, say

if TYPE_CHECKING:
    from reelkind.serving.server import TritonServer

FLAVOURS = ("auto", "python", "onnxruntime", "tensorrt")
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_NUM_NAMED = 3  # ensembles in the line that says ready
_PORT_HELP = "0 picks a free one (default: %(default)s)"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the subcommand."""
    parser = subparsers.add_parser(
        "serve",
        help="run the inference server on this machine",
        description="Run the inference server: the tritonserver of a Triton container if there is one on PATH, else "
        "an embedded one, for which an environment of its own is made once (about 100 MB of downloads).",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--bundle",
        action="append",
        type=Path,
        metavar="DIR",
        help="a trained bundle; again for an ensemble of several (default: the packaged one)",
    )
    source.add_argument("--repository", type=Path, metavar="DIR", help="serve this model repository as it is")
    parser.add_argument(
        "--host", default="127.0.0.1", help="IPv4 address to listen on, without authentication (default: %(default)s)"
    )
    parser.add_argument("--grpc-port", type=int, default=8001, metavar="PORT", help=_PORT_HELP)
    parser.add_argument("--http-port", type=int, default=8000, metavar="PORT", help=_PORT_HELP)
    parser.add_argument("--metrics-port", type=int, default=8002, metavar="PORT", help=_PORT_HELP)
    parser.add_argument(
        "--flavour", choices=FLAVOURS, default="auto", help="who executes the graphs (default: %(default)s)"
    )
    parser.add_argument(
        "--engines", type=Path, metavar="DIR", help="engines built on this card, for --flavour tensorrt"
    )
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="CPU threads inside one operator (default: all cores)"
    )
    parser.add_argument(
        "--mig-uuid",
        type=mig_uuid,
        metavar="UUID",
        help="the slice of a card to use, as `nvidia-smi -L` lists it; one server a slice (default: "
        "$CUDA_VISIBLE_DEVICES)",
    )
    parser.add_argument("--max-queue", type=positive, metavar="N", help=MAX_QUEUE_HELP)
    add_precision(parser)
    add_option_arguments(parser)
    parser.add_argument("--log-file", type=Path, metavar="FILE", help="append tritonserver's own output to this file")
    parser.add_argument("--prepare", action="store_true", help="only make the embedded server's environment, then exit")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM, or until the server cannot be kept alive."""
    if args.prepare:
        from reelkind.serving.install.environment import prepare_server_env

        print(prepare_server_env(say).folder)
        return EXIT_OK
    _check_together(args)
    with _stop_signals():
        try:
            return _serve(args)
        except _StopSignal:
            return EXIT_OK


def _check_together(args: argparse.Namespace) -> None:
    if args.repository is not None and (
        args.flavour != "auto" or args.threads or args.engines or args.max_queue or args.precision != "auto"
    ):
        raise UsageError(
            "--repository is served as it is: --flavour, --threads, --engines, --max-queue and --precision are for "
            "bundles"
        )
    if (args.flavour == "tensorrt") != (args.engines is not None):
        raise UsageError(
            "--flavour tensorrt and --engines DIR go together: `reelkind export engine` builds engines on this card"
        )


def _serve(args: argparse.Namespace) -> int:
    from reelkind.serving.errors import ServingError
    from reelkind.serving.install.runtime import find_runtime
    from reelkind.serving.server import TritonServer
    from reelkind.serving.state import announced

    options = server_options(args)  # what is wrong with files is said before a server is downloaded
    bundles = {}
    if args.repository is None:
        bundles = {bundle.load(folder).name: folder for folder in args.bundle or [default_bundle()]}
    if args.mig_uuid:
        _use_slice(args.mig_uuid)
    runtime = find_runtime(say)
    if args.mig_uuid and runtime.embedded:
        raise UsageError(
            "--mig-uuid is for a tritonserver that can use a GPU, as in NVIDIA's image; the embedded one cannot"
        )
    with ExitStack() as stack:
        repository, owned = args.repository, []
        if repository is None:
            folders = args.bundle or [default_bundle()]
            built = temporary_repository(
                folders,
                runtime,
                flavour=args.flavour,
                num_threads=args.threads,
                engines=args.engines,
                max_queue=args.max_queue,
                precision=args.precision,
            )
            repository = stack.enter_context(built)
            owned = [repository]
        prepare_response_cache(args, repository)
        server = TritonServer(
            repository,
            runtime=runtime,
            host=args.host,
            grpc_port=args.grpc_port,
            http_port=args.http_port,
            metrics_port=args.metrics_port,
            log_file=args.log_file,
            owned=owned,
            options=options,
        )
        stack.enter_context(server)
        stack.enter_context(announced(server, bundles))
        if server.addresses.exposed and not args.tls_client_ca:
            more = ", and one message by HTTP can end it" if options.open_http else ""
            say(f"warning: other machines can reach {args.host}, there is no authentication{more}")
        print(_ready_line(server), flush=True)
        try:
            server.wait()
        except ServingError:  # the supervisor has logged why it gave up
            return EXIT_FAILED
        return EXIT_OK


def mig_uuid(text: str) -> str:
    """The name of a MIG device: ``MIG-<uuid>``, or ``MIG-GPU-<uuid>/n/n`` of drivers before R470."""
    if not re.fullmatch(r"MIG-(GPU-)?[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(/\d+/\d+)?", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} names no MIG slice: take MIG-… from `nvidia-smi -L` (a whole card: CUDA_VISIBLE_DEVICES)"
        )
    return text


def _use_slice(uuid: str) -> None:
    """Show CUDA this slice only: here, and to the tritonserver that inherits the environment."""
    shown = os.environ.get(_VISIBLE, uuid)
    if shown != uuid:
        raise UsageError(f"--mig-uuid says {uuid}, ${_VISIBLE} says {shown}: give one of them")
    os.environ[_VISIBLE] = uuid


def _ready_line(server: TritonServer) -> str:
    members: dict[str, str] = {}
    trained = set()
    for config in server.configs.values():
        parameters = {key: value.string_value for key, value in config.parameters.items()}
        names = list(filter(None, parameters.get("members", "").split(",")))
        precisions = dict(zip(names, parameters.get("precisions", "").split(","), strict=False))
        members |= {name: f"{name} (int8)" if precisions.get(name) == "int8" else name for name in names}
        trained.add(parameters.get("trained", "unknown"))
    state = "UNTRAINED: answers mean nothing" if "false" in trained else "trained" if trained == {"true"} else "unknown"
    named, others = server.ensembles[:_NUM_NAMED], server.ensembles[_NUM_NAMED:]
    more = f" and {len(others)} more" if others else ""
    return (
        f"ready: grpc {server.url}, http {server.http_url.removeprefix('http://')}, "
        f"ensembles {', '.join(named)}{more}, members {', '.join(members.values()) or 'unnamed'} ({state})"
    )


class _StopSignal(BaseException):
    """SIGINT or SIGTERM arrived."""


@contextmanager
def _stop_signals() -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into ``_StopSignal``; later ones wait for the end they asked for."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        for name in previous:
            signal.signal(name, signal.SIG_IGN)
        raise _StopSignal

    previous = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    for name in previous:
        signal.signal(name, stop)
    try:
        yield
    finally:
        for name, handler in previous.items():
            signal.signal(name, handler)
