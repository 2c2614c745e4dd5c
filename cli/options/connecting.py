"""Options that say which server answers, and as what: to a client."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from reelkind.core.timing.clips import EXACT, SEEKS

from ..output.talk import say
from .arguments import header, positive, seconds, share

if TYPE_CHECKING:
    from reelkind.client import Client, Decoder, FeatureCache, Tls

URL_VARIABLE = "REELKIND_URL"
TTA = ("off", "fast", "full")  # those of core.specs, which --help need not load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that every command takes which asks a server."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--url",
        metavar="ADDRESS",
        help="server to ask: HOST:PORT for gRPC, http://HOST:PORT or https://HOST:PORT; several with commas between "
        "them, or dns:///NAME:PORT for all of a name, take turns "
        f"(default: ${URL_VARIABLE}, else 127.0.0.1:8001, else one for this run)",
    )
    where.add_argument(
        "--bundle",
        action="append",
        metavar="DIR",
        help="serve this bundle for this run; again for several, which then answer together unless --member names one",
    )
    parser.add_argument(
        "--member", metavar="NAME", help="who answers; ensemble for all members (default: the server's first)"
    )
    parser.add_argument(
        "--tta",
        choices=TTA,
        default="off",
        help="test-time augmentation: fast looks at features in several orders, at next to no cost; full at each frame "
        "in several ways too, which multiplies the work (default: %(default)s)",
    )
    parser.add_argument("--timeout", type=seconds, metavar="S", help="seconds an answer may take (default: 60)")
    parser.add_argument(
        "--header", type=header, action="append", metavar="NAME=VALUE", help="send this with every request"
    )
    add_tls(parser)


def add_tls(parser: argparse.ArgumentParser) -> None:
    """Options of an encrypted connection."""
    parser.add_argument("--tls", action="store_true", help="encrypt gRPC (HTTP: write https:// in --url)")
    parser.add_argument("--tls-ca", metavar="FILE", help="authorities to trust, PEM (default: the well-known ones)")
    parser.add_argument("--tls-cert", metavar="FILE", help="certificate to show a server that asks for one, PEM")
    parser.add_argument("--tls-key", metavar="FILE", help="private key of --tls-cert, PEM")


def add_abstaining(parser: argparse.ArgumentParser) -> None:
    """Options of commands whose answers are labels."""
    abstain = parser.add_mutually_exclusive_group()
    abstain.add_argument(
        "--abstain", action="store_true", help="give no label below the confidence that the model's validation asks for"
    )
    abstain.add_argument("--abstain-below", type=share, metavar="P", help="give no label below this confidence")


def add_decoding(parser: argparse.ArgumentParser) -> None:
    """Options of commands that decode videos."""
    parser.add_argument(
        "--decode-timeout", type=seconds, metavar="S", help="seconds decoding a file may take (default: 120)"
    )
    parser.add_argument("--jobs", type=positive, metavar="N", help="decoding processes (default: one a CPU)")


def add_seeking(parser: argparse.ArgumentParser) -> None:
    """Options of commands that look at a few frames of a video."""
    parser.add_argument(
        "--seek",
        choices=SEEKS,
        default=EXACT,
        help="which frames are decoded: those on screen at the instants of a clip; key frames before them, many times "
        "faster in long or large videos; or auto, which takes key frames once exact ones have cost some seconds, and "
        "says so (default: %(default)s)",
    )


def add_frames(parser: argparse.ArgumentParser) -> None:
    """The option of commands that look at a few frames of each video."""
    parser.add_argument(
        "--frames",
        type=positive,
        metavar="N",
        help="frames of each video that are looked at: fewer are faster (default: what the model was made for)",
    )


def decoder(args: argparse.Namespace, stack: ExitStack) -> Decoder:
    """Processes that decode, by the options of ``add_decoding``; closed with ``stack``."""
    from reelkind.client import ProcessDecoder

    return stack.enter_context(ProcessDecoder(args.jobs, **decoder_options(args)))


def decoder_options(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of ``ProcessDecoder`` that another process can be given."""
    from reelkind.video.decoding import DECODE_TIMEOUT_S

    return {"timeout_s": args.decode_timeout or DECODE_TIMEOUT_S, "seek": getattr(args, "seek", EXACT)}


def group(args: argparse.Namespace) -> str | None:
    """The member that answers, all of them, or None for the server's first."""
    from reelkind.core.specs import ALL_MEMBERS

    return args.member or (ALL_MEMBERS if len(args.bundle or ()) > 1 else None)


def connect(
    args: argparse.Namespace,
    stack: ExitStack,
    decoder: Decoder,
    *,
    needs: Sequence[str] = ("classify",),
    cache: FeatureCache | None = None,
) -> Client:
    """The server named, else the one at the default address, else one started for this run.

    Args:
        args: with the options of ``add_arguments``, perhaps those of ``add_abstaining``.
        stack: closes what is opened.
        decoder: how the client decodes files.
        needs: kinds of the models that a server of this run must have, fields of ``core.specs.Models``.
        cache: features of files seen before.

    Raises:
        ReelkindError: if a server was named and does not answer; no other is put in its place.
    """
    from reelkind.core.specs import models_of
    from reelkind.deployment.opening import find_or_start

    models = models_of(group(args), args.tta)
    return find_or_start(
        args.url,
        args.bundle or [],
        stack,
        models={getattr(models, kind) for kind in needs},
        progress=say,
        decoder=decoder,
        cache=cache,
        **client_options(args),
    )


def client_options(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of ``Client`` that another process can be given."""
    from reelkind.client import PATIENT

    options: dict[str, Any] = {"member": group(args), "tta": args.tta, "tls": tls_of(args), "retry_s": PATIENT}
    if args.timeout is not None:
        options["timeout_s"] = args.timeout
    if args.header:
        options["headers"] = dict(args.header)
    below = getattr(args, "abstain_below", None)
    options["num_frames"] = getattr(args, "frames", None)
    options["abstain"] = getattr(args, "abstain", False) if below is None else below
    return options


def tls_of(args: argparse.Namespace) -> bool | Tls:
    """What the options of ``add_tls`` say."""
    from reelkind.client import Tls

    files = (args.tls_ca, args.tls_cert, args.tls_key)
    return Tls(*files) if any(files) else bool(args.tls)
