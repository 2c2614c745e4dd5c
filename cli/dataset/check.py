"""``reelkind dataset check``: what is unusable, twice there, leaking or labelled wrongly in manifests."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ..options.arguments import positive, seconds
from ..output.talk import say

if TYPE_CHECKING:
    import numpy as np

    from reelkind.core.bundle import Bundle
    from reelkind.datasets.exclusions import Finding, Verdict
    from reelkind.datasets.inspection import Embed, Read
    from reelkind.datasets.sample import Sample
    from reelkind.video.clip import Clip

SHEET_NAME = "suspicious.jpg"
_SHEET_QUALITY = 85


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the subcommand."""
    parser = subparsers.add_parser(
        "check",
        help="find unusable, duplicate, leaking and mislabelled files",
        description="Decode every file of one or several manifests, compare them all, and write exclusions.csv beside "
        "each manifest: training leaves out the rows whose column exclude says yes, and you may change it. "
        "Exit status 0: the check was made, whatever it found; 1: it could not be made.",
    )
    parser.add_argument("data", nargs="+", type=Path, help="folders with a manifest.csv, or folders of such folders")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write here instead of beside the manifests")
    parser.add_argument(
        "--min-duration-s",
        type=seconds,
        default=1.0,
        metavar="S",
        help="shorter videos are found; stills are exempt (default: %(default)s)",
    )
    parser.add_argument("--no-labels", action="store_true", help="do not look for wrong labels")
    parser.add_argument("--bundle", type=Path, help="whose backbone looks for wrong labels (default: the packaged one)")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if something is found for the first time")
    parser.add_argument("--fresh", action="store_true", help="look at every file again, not only at changed ones")
    parser.add_argument("--cache", type=Path, help="file of what was seen (default: in the user's cache)")
    parser.add_argument("--jobs", type=positive, metavar="N", help="files decoded side by side (default: one a CPU)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check, write exclusions and contact sheets, and print the summary."""
    from reelkind.client import ProcessDecoder
    from reelkind.core.bundle import load, weights_hash
    from reelkind.core.files.user_cache import user_cache
    from reelkind.core.timing.clips import FRAME_SIZE_PX
    from reelkind.datasets.checking import find_all
    from reelkind.datasets.exclusions import read_exclusions
    from reelkind.datasets.inspection import InspectionCache, inspect_all
    from reelkind.datasets.manifest import find_manifests
    from reelkind.datasets.samples import read_manifest
    from reelkind.deployment.embedded import default_bundle

    from ..output.report import CountBar

    listed = {manifest: read_manifest(manifest) for manifest in find_manifests(args.data)}
    targets = _targets(list(listed), args.out)
    for target in targets.values():
        read_exclusions(target)  # a malformed one is to be mended before the work, not after
    bundle = None if args.no_labels else load(args.bundle or default_bundle())
    size_px = FRAME_SIZE_PX if bundle is None else bundle.backbone.frame_size_px
    recipe = f"{size_px}:" + ("" if bundle is None else weights_hash(bundle))
    with ExitStack() as stack:
        embed = None if bundle is None else _embedder(bundle)
        cache = stack.enter_context(InspectionCache(args.cache or user_cache("inspections.sqlite"), recipe))
        decoder = stack.enter_context(ProcessDecoder(args.jobs))
        samples = [sample for found in listed.values() for sample in found]
        paths = list(dict.fromkeys(sample.path for sample in samples))

        def read(path: Path, num_frames: int) -> Clip:
            return decoder.decode(path, num_frames=num_frames, size_px=size_px).clip

        with CountBar(len(paths), shown=not args.no_progress) as progress:
            seen = inspect_all(
                paths, read, embed, cache, decoder.num_workers, fresh=args.fresh, advance=progress.advance
            )
        findings = find_all(samples, seen, min_duration_s=args.min_duration_s)
        verdicts = _write(listed, targets, findings, read)
    print(json.dumps(_as_json(verdicts, len(paths)), indent=2) if args.json else _table(verdicts, len(paths)))
    return 1 if args.strict and any(verdict.is_new for verdict in verdicts) else 0


def _targets(manifests: Sequence[Path], out: Path | None) -> dict[Path, Path]:
    """Where each manifest's exclusions go.

    Raises:
        DataError: if two would go to the same place.
    """
    from reelkind.core.errors import DataError

    if out is None or len(manifests) == 1:
        return {manifest: out or manifest.parent for manifest in manifests}
    targets = {manifest: out / manifest.resolve().parent.name for manifest in manifests}
    if len(set(targets.values())) < len(targets):
        raise DataError(f"--out {out}: two of the manifests lie in folders of the same name; check them one by one")
    return targets


def _embedder(bundle: Bundle) -> Embed:
    """Mean features of a clip's frames, by the backbone as it is served."""
    import numpy as np

    from reelkind.core.specs import backbone_graph
    from reelkind.export.pipelines.reference import onnx_stage
    from reelkind.export.repository.graph_files import find_graph_file

    stage = onnx_stage(find_graph_file(backbone_graph(bundle), {bundle.name: bundle}), num_threads=1)

    def embed(frames: np.ndarray) -> np.ndarray:
        views = np.ascontiguousarray(frames.transpose(0, 3, 1, 2)[None, None])  # [1, 1, T, 3, S, S]
        mean: np.ndarray = stage([views])[0].mean(axis=(0, 1, 2))  # [D]
        return mean

    return embed


def _write(
    listed: Mapping[Path, Sequence[Sample]], targets: Mapping[Path, Path], findings: Sequence[Finding], read: Read
) -> list[Verdict]:
    """Exclusions and contact sheet of every manifest."""
    from reelkind.core.files.whole_files import whole_file
    from reelkind.datasets.contact_sheet import draw_contact_sheet
    from reelkind.datasets.exclusions import write_exclusions

    verdicts = []
    for manifest, samples in listed.items():
        paths = {sample.path for sample in samples}
        mine = [finding for finding in findings if finding.path in paths]
        verdicts += write_exclusions(targets[manifest], mine, manifest.parent)
        sheet, num_left_out = draw_contact_sheet(mine, read, manifest.parent)
        path = targets[manifest] / SHEET_NAME
        if sheet is None:
            path.unlink(missing_ok=True)  # an old one would show what is no more
            continue
        with whole_file(path) as file:
            sheet.save(file, "JPEG", quality=_SHEET_QUALITY)
        more = f"; {num_left_out} more did not fit" if num_left_out else ""
        say(f"look at {path}{more}")
    return verdicts


def _as_json(verdicts: Sequence[Verdict], num_files: int) -> dict[str, object]:
    findings = [
        {
            "path": str(verdict.finding.path),
            "reason": verdict.finding.reason.value,
            "detail": verdict.finding.detail,
            "other": str(verdict.finding.other),
            "exclude": verdict.exclude,
            "new": verdict.is_new,
        }
        for verdict in verdicts
    ]
    return {"files": num_files, "findings": findings}


def _table(verdicts: Sequence[Verdict], num_files: int) -> str:
    from reelkind.datasets.exclusions import Reason

    lines = [f"{'REASON':14} {'FOUND':>6} {'EXCLUDED':>9} {'NEW':>6}"]
    for reason in Reason:
        mine = [verdict for verdict in verdicts if verdict.finding.reason is reason]
        if mine:
            excluded, new = sum(verdict.exclude for verdict in mine), sum(verdict.is_new for verdict in mine)
            lines.append(f"{reason.value:14} {len(mine):6} {excluded:9} {new:6}")
    excluded = len({verdict.finding.path for verdict in verdicts if verdict.exclude})
    lines.append(f"{num_files} files checked, {excluded} of them excluded")
    return "\n".join(lines)
