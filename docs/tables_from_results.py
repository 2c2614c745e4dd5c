"""Tables of what was measured last: `benchmarks/results/`."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tables_from_code import table

from reelkind.benchmarks import decode, scale, tta
from reelkind.benchmarks.bulk import page as bulk_page
from reelkind.benchmarks.load import serve_page
from reelkind.benchmarks.peers import peers
from reelkind.benchmarks.reliability import page as reliability_page
from reelkind.core import bundle
from reelkind.core.timing.segments import SWITCH_PENALTY
from reelkind.deployment.embedded import DEFAULT_BUNDLE

ROOT = Path(__file__).parents[1]
MEASURED = ROOT / "benchmarks" / "results"


def performance() -> str:
    """Serving overhead as last measured."""
    report = _measured("serving_overhead_cpu")
    rates, machine = report["clips_per_second"], report["machine"]

    def compared(key: str) -> str:
        found = report[key]
        return f"{found['median']:.2f} ({found['low']:.2f} .. {found['high']:.2f})"

    rows = [
        ("Triton, gRPC and shared memory", f"{rates['triton']:.1f}", ""),
        (
            "one ONNX Runtime session a graph, in-process, default options",
            f"{rates['sessions']:.1f}",
            compared("triton_to_sessions"),
        ),
        (
            "the same, the cores divided among the callers",
            f"{rates['divided']:.1f}",
            compared("triton_to_divided"),
        ),
        (
            "the same, executed as the server does, a few frames a thread",
            f"{rates['as served']:.1f}",
            compared("triton_to_as_served"),
        ),
    ]
    frames, size, *_ = report["clip"]
    is_current = report["weights_sha256"] == bundle.weights_hash(bundle.load(ROOT / "bundles" / "lite"))
    earlier = "" if is_current else ", with an earlier `lite`"
    return (
        table(
            (
                f"clips of {frames} frames, {size}x{size}, concurrency {report['concurrency']}",
                "clips/s",
                "Triton / this, median (quartiles)",
            ),
            rows,
        )
        + f"\n\n{machine['processor']}, {machine['cores']} cores; ONNX Runtime; `make measure`{earlier}. "
        "GPU: not measured."
    )


def serving() -> str:
    """What features, timelines and company cost, as last measured."""
    features, borders = _measured("features_speed_cpu"), _measured("timeline_borders_cpu")
    overlap, company = _measured("timeline_overlap_cpu"), _measured("concurrency")
    alone, crowd = (company["shared memory"][callers] for callers in ("1", "8"))
    batches = crowd["models"][f"backbone_{company['bundle']}"]
    right, parts = borders["right_in_timeline_where_right_alone"], borders["right_alone"]
    ratio, long = overlap["timeline_to_slower_half"], _measured("timeline_3_hours_cpu")
    decoding, inference = (statistics.median(overlap["seconds"][f"{half} alone"]) for half in ("decoding", "inference"))
    rows = [
        (
            "a file classified again, from the cache of features",
            f"**{features['from_cache']['median']:.0f} times** as fast as the first time "
            f"(least of {len(features['files'])} files: {features['from_cache']['least']:.1f})",
        ),
        (
            f"timeline of {borders['minutes']:.0f} minutes, {len(borders['parts'])} known segments",
            f"{right} of the {parts} segments right that are right as single clips; borders off by at most "
            f"{max(borders['border_errors_s']):.0f} s; {borders['wall_s']:.0f} s; "
            f"the client's memory {_memory(borders, 'client')}",
        ),
        (
            f"timeline of {long['minutes'] / 60:g} hours",
            f"the client's memory {_memory(long, 'client')}; its decoder's {_memory(long, 'decoder')}",
        ),
        (
            f"timeline of {overlap['minutes']:.0f} minutes, decoder and server on a core each",
            f"**{ratio['median']:.2f}** of the slower of decoding alone ({decoding:.0f} s) and inference alone "
            f"({inference:.0f} s), {_rounds(ratio['rounds'])}",
        ),
        (
            "8 callers at once, against one",
            f"**{crowd['to_one_caller']['median']:.2f}** of its clips/s "
            f"({crowd['to_one_caller']['low']:.2f} .. {crowd['to_one_caller']['high']:.2f}; one: "
            f"{alone['clips_per_second']:.1f}); {batches['clips']} clips in {batches['executions']} executions",
        ),
    ]
    return table((f"`{company['bundle']}` served on {company['machine']['cores']} cores", "measured"), rows)


def _memory(report: Mapping[str, Any], process: str) -> str:
    found = report["resident_mb"][process]
    return f"{found['first']:.0f} MB at first, then {found['least']:.0f} .. {found['most']:.0f} MB"


def _rounds(ratios: list[float]) -> str:
    if len(ratios) == 1:
        return "one round"
    return f"median of {len(ratios)} rounds ({min(ratios):.2f} .. {max(ratios):.2f})"


def augmentation() -> str:
    """Gain and cost of test-time augmentation, as last measured."""
    report = _measured("tta")
    return tta.table(report["gain"], report["cost"])


def bursts() -> str:
    """What a limit of the queue costs, by instances of the backbone."""
    report = _measured("bursts_cpu")
    rows = [
        (
            way,
            f"{found['median']:.0f} ms (at most {found['most']:.0f})",
            f"{found['stalled']} of {len(report['rounds'][way])}",
        )
        for way, found in report["last_answer_ms"].items()
    ]
    return table((f"{report['clips_at_once']} clips at once", "the last answered after, median", "stalled"), rows)


def neighbours() -> str:
    """What a video's nearest neighbour has in common with it."""
    found = _measured("neighbours")
    rows = []
    for name, gallery in found["among"].items():
        place = f"{name} ({gallery['num_clips']})"
        for kind in ("embedding", "mean of the features"):
            shares = [_share(gallery[kind][what]) for what in ("class", "subcategory")]
            rows.append((f"`{found['members'][0]}`, {kind}", place, *shares))
        chances = [f"{gallery['by_chance'][what]:.2f}" for what in ("class", "subcategory")]
        rows.append(("any clip", place, *chances))
    asked = f"{found['num_asked']} validation clips of {found['num_works']} works"
    return table((asked, "nearest among", "same class (95 %)", "same subcategory (95 %)"), rows)


def _share(found: Mapping[str, Any]) -> str:
    low, high = found["interval_95"]
    return f"{found['share']:.2f} ({low:.2f} .. {high:.2f})"


def segments() -> str:
    """What the penalty for a change of class does to segments of three ranges of lengths."""
    report = _measured("segments")
    rows = {}
    for row in report["means"]:
        cells = rows.setdefault(row["switch_penalty"], [])
        cells.append(f"{row['f1']:.2f}; {row['found']:.2f}; {row['time_right']:.2f}")
    lengths = list(dict.fromkeys(tuple(row["lengths_s"]) for row in report["means"]))
    default = f"**{SWITCH_PENALTY:g}**"
    names = {penalty: default if penalty == SWITCH_PENALTY else f"{penalty:g}" for penalty in rows}
    return table(
        ("penalty", *(f"segments of {low} to {high} s" for low, high in lengths)),
        [(names[penalty], *cells) for penalty, cells in rows.items()],
    )


def short_kinds() -> str:
    """What timelines find of segments of a few seconds."""
    rows = []
    for row in _measured("short_kinds_clip")["reported"]:
        shown, alone = row["shown"], row["alone"]
        rows.append(
            (
                f"{row['length_s']:g} s",
                f"{shown['found']} of {shown['segments']}",
                f"{alone['found']} of {alone['segments']}",
                f"{shown['time_right']:.2f}",
                f"{alone['border_median_s']:.1f} ({alone['border_most_s']:.1f})",
            )
        )
    header = ("segments of", "found", "... of those right alone", "time right", "border off by, median (most), seconds")
    return table(header, rows)


def bench_serve() -> str:
    """A server under load: ensembles alone."""
    return _bench("serve", lambda report: serve_page.closed_table(_ensembles(report, "concurrency")))


def bench_open() -> str:
    """A server to which requests come by chance."""
    return _bench("serve", lambda report: serve_page.open_table(_ensembles(report, "rate")))


def bench_stages() -> str:
    """Where the time of a request goes."""
    return _bench("serve", lambda report: serve_page.stage_table(_ensembles(report, "concurrency")))


def bench_peers() -> str:
    """File to label by others."""
    return _bench("peers", lambda report: peers.peer_table(report["rows"]))


def bench_decode() -> str:
    """Frames out of videos."""
    return _bench("decode", lambda report: decode.decode_table(report["rows"]))


def bench_scale() -> str:
    """What a clip costs."""
    return _bench("scale", lambda report: scale.slope_table(report["slopes"]))


def _ensembles(report: Mapping[str, Any], loop: str) -> list[dict[str, Any]]:
    return [row for row in report["rows"] if row["kind"] == "ensemble" and loop in row]


def _bench(verb: str, make: Callable[[Mapping[str, Any]], str]) -> str:
    """The tables of a verb's reports, of the default member and of others, with machine and command."""
    first = MEASURED / f"bench_{verb}.json"
    others = sorted(MEASURED.glob(f"bench_{verb}_*.json"))
    found = [_bench_table(verb, file, make) for file in (first, *others) if file.is_file()]
    return "\n\n".join(found) or f"Not measured yet: `reelkind bench {verb} --json benchmarks/results/{first.name}`."


def _bench_table(verb: str, file: Path, make: Callable[[Mapping[str, Any]], str]) -> str:
    member = file.stem.removeprefix(f"bench_{verb}").removeprefix("_")
    option = f" --member {member}" if member else ""
    report = json.loads(file.read_text(encoding="utf-8"))
    where = report["environment"]
    whose = "" if verb == "decode" else f"Member `{member or DEFAULT_BUNDLE}`; "
    quick = " --quick: to try, not to quote" if report["plan"]["quick"] else ""
    return (
        f"{make(report)}\n\n{whose}{where['processor']}, {where['cores']} cores, commit {where['revision']}; "
        f"`reelkind bench {verb}{option} --json benchmarks/results/{file.name}`{quick}."
    )


def failover() -> str:
    """Two servers behind one client, one of them killed."""
    report = _measured("failover_cpu")
    shares, where = report["share_of_the_returned"], report["machine"]
    rows = [
        ("answers, lost, wrong", f"{report['answers']}, {len(report['lost'])}, {report['wrong']}"),
        ("the slowest", f"{report['slowest_answer_s']} s"),
        ("share of the server that came back: first 3 s", f"{shares['first 3 s']:.0%}"),
        ("... after the slow start", f"{shares['after the slow start']:.0%}"),
        ("clips a second of both servers to one, on the same two cores", f"{report['both_to_one']:.2f}"),
    ]
    return (
        f"{table(('one of two servers killed', 'measured'), rows)}\n\n{where['processor']}, {where['cores']} cores, "
        f"{report['callers']} callers, commit {where['revision']}; `python -m reelkind.benchmarks.failover`."
    )


def bulk_jobs() -> str:
    """What came of bulk jobs, and how fast they were."""
    report = _measured("bulk_cpu")
    frames = "" if report["frames"] is None else f" by {report['frames']} frames"
    where, (first, second) = report["machine"], report["plain_loop"]["seconds"]
    return "\n\n".join(
        [
            bulk_page.robustness(report),
            bulk_page.speed(report),
            f"Member `{report['member']}`{frames}; {where['processor']}, {where['cores']} cores, commit "
            f"{where['revision']}. Beside it ran: {report['beside']}. The loop took {first:g} s for a half of the "
            f"videos before the jobs, {second:g} s for the other half after them. "
            "`python -m reelkind.benchmarks.bulk.jobs`.",
        ]
    )


def bulk_memory() -> str:
    """Memory of the processes of the largest bulk job."""
    return bulk_page.memory(_measured("bulk_cpu"))


def bulk_cost() -> str:
    """What a million hours cost, from what was measured."""
    return bulk_page.cost(_measured("bulk_unit_costs_cpu"), _measured("bulk_cpu"))


def reliability(part: str, make: Callable[[Mapping[str, Any]], str]) -> Callable[[], str]:
    """What fills a section of docs/reliability.md: the table of a part, and where it was measured."""

    def section() -> str:
        if not (MEASURED / f"reliability_{part}.json").is_file():
            return f"Not measured yet: `python -m reelkind.benchmarks.reliability.{part}`."
        report = _measured(f"reliability_{part}")
        return f"{make(report)}\n\n{reliability_page.conditions(report, part)}"

    return section


def _measured(name: str) -> Any:
    return json.loads((MEASURED / f"{name}.json").read_text(encoding="utf-8"))
