"""``reelkind dataset``: folders to manifests, manifests checked and split, and YouTube-8M as a source."""

from __future__ import annotations

import argparse

from . import check as dataset_check
from . import manifest as dataset_manifest
from . import split as dataset_split
from . import yt8m as dataset_yt8m

_VERBS = (dataset_manifest, dataset_check, dataset_split, dataset_yt8m)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``dataset`` and its verbs."""
    parser = subparsers.add_parser("dataset", help="list, check and split training data")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for module in _VERBS:
        module.add_parser(verbs)
