"""``reelkind train``: a configuration and a data folder to a bundle."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

EXIT_OK = 0


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the subcommand."""
    parser = subparsers.add_parser(
        "train",
        help="train a bundle",
        description="Train a bundle from folders of clips and stills with manifests, measure it and write its card. "
        "Activations of the frozen layers are cached, so a second run starts where they are done.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("config", type=Path, help="TOML file, e.g. training/configs/lite.toml")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="A.B=VALUE",
        dest="overrides",
        help="override one value of the configuration; may be repeated",
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder that holds the sources' folders")
    parser.add_argument("--out", type=Path, default=None, help="the bundle's folder; bundles/NAME if not given")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder for cached activations")
    parser.set_defaults(run=run)


def default_cache() -> Path:
    """Where activations are kept unless ``--cache`` says otherwise."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "reelkind" / "activations"


def run(args: argparse.Namespace) -> int:
    """Train; the metrics go to stdout as JSON."""
    from reelkind.training import recipe
    from reelkind.training.config import load_config

    config = load_config(args.config, args.overrides)
    out = args.out or Path("bundles") / config.name
    bundle = recipe.run(config, data=args.data, out=out, cache=args.cache)
    print(json.dumps({"bundle": str(out), "temperature": bundle.temperature, "metrics": bundle.metrics}, indent=2))
    return EXIT_OK
