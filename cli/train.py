"""``reelkind train``: a configuration and a data folder to a bundle."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .output.talk import EXIT_OK

if TYPE_CHECKING:
    from reelkind.core.bundle import Bundle


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the subcommand."""
    parser = subparsers.add_parser(
        "train",
        help="train a bundle",
        description="Train a bundle from folders of clips and stills with manifests, measure it and write its card. "
        "Activations of the frozen layers are cached, and an interrupted run goes on where it was.",
    )
    parser.add_argument(
        "config", type=Path, metavar="CONFIG", help="TOML file, or the name of one that comes with reelkind, e.g. mine"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="A.B=VALUE",
        dest="overrides",
        help="override one value of the configuration; may be repeated",
    )
    parser.add_argument(
        "--data", type=Path, default=Path("data"), help="folder that holds the sources' folders (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, help="the bundle's folder (default: bundles/NAME)")
    parser.add_argument(
        "--cache", type=Path, help="folder for activations and checkpoints (default: in the user's cache)"
    )
    parser.add_argument("--fresh", action="store_true", help="train anew what an interrupted run has done already")
    parser.add_argument("--overwrite", action="store_true", help="replace a bundle that is in the folder already")
    parser.add_argument("--json", action="store_true", help="print the metrics as JSON instead of a summary")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train; results go to stdout, progress to stderr. Under torchrun only the first process talks."""
    from reelkind.training.config import find_config
    from reelkind.training.features_only.track_config import KIND, config_kind
    from reelkind.training.optimisation import distributed

    if distributed.is_main():  # a long run that says nothing is taken for a hanging one
        logging.getLogger("reelkind.training").setLevel(min(logging.INFO, logging.getLogger().level))
    args.config = find_config(args.config)
    if config_kind(args.config) == KIND:
        from . import train_on_features as _yt8m_training

        return _yt8m_training.run(args)
    return _run_recipe(args)


def _run_recipe(args: argparse.Namespace) -> int:
    from reelkind.core.bundle import MANIFEST_NAME
    from reelkind.core.errors import ConfigError
    from reelkind.core.files.user_cache import user_cache
    from reelkind.training import recipe
    from reelkind.training.config import load_config
    from reelkind.training.optimisation import distributed

    config = load_config(args.config, args.overrides)
    out = args.out or Path("bundles") / config.name
    if (out / MANIFEST_NAME).exists() and not args.overwrite:
        raise ConfigError(f"{out} holds a bundle already: choose another --out, or --overwrite it")
    cache = args.cache or user_cache("activations")
    bundle = recipe.run(config, data=args.data, out=out, cache=cache, fresh=args.fresh)
    if distributed.is_main():
        print(_as_json(bundle, out) if args.json else _summary(bundle, out))
    return EXIT_OK


def _as_json(bundle: Bundle, out: Path) -> str:
    result = {
        "bundle": str(out),
        "temperature": bundle.temperature,
        "metrics": bundle.metrics,
        "run": bundle.provenance["run"],
    }
    return json.dumps(result, indent=2, ensure_ascii=False)


def _summary(bundle: Bundle, out: Path) -> str:
    from reelkind.evaluation.card import run_table

    lines = [f"{'bundle':<14} {out}"]
    for title, key in (("cross-valid.", "cross_validation"), ("validation", "val"), ("both", "held_out")):
        if metrics := bundle.metrics[key]:
            measured = ", ".join(_with_interval(metrics, name) for name in ("accuracy", "macro_f1"))
            lines.append(f"{title:<14} {metrics['num_clips']} clips of {metrics['num_works']} works: {measured}")
    lines += [f"{'collapsed':<14} {notice}" for notice in bundle.metrics["collapsed"]]
    return "\n".join([*lines, run_table(bundle.provenance["run"])])


def _with_interval(metrics: Mapping[str, Any], name: str) -> str:
    low, high = metrics["interval_95"][name]
    return f"{name.replace('_', ' ')} {metrics[name]:.3f} (95 %: {low:.2f} .. {high:.2f})"
