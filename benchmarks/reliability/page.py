"""Reports of all parts to the tables of docs/reliability.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reelkind.benchmarks.reports import number, table

Report = Mapping[str, Any]


def conditions(report: Report, command: str) -> str:
    """Where it was measured, and how to do it again."""
    machine = report["machine"]
    quick = " --quick: to try, not to quote" if report["quick"] else ""
    return (
        f"{machine['processor']}, {machine['cores']} cores, load {machine['load_before']} before and "
        f"{machine['load_after']} after, nice {machine['nice']}, commit {machine['revision']}; "
        f"`python -m reelkind.benchmarks.reliability.{command}`{quick}."
    )


def files(report: Report) -> str:
    """What came of bad files."""
    rows = []
    for name, found in report["kinds"].items():
        counts = found["counts"]
        bad = {kind: counts[kind] for kind in counts if kind not in _FINE}
        rows.append(
            (
                name,
                str(found["files"]),
                *(str(counts.get(kind, 0)) for kind in _FINE),
                ", ".join(f"{count} {kind}" for kind, count in bad.items()) or "0",
                f"{found['largest']['peak_mib']:.0f} MiB ({found['largest']['file']})",
                f"{found['slowest']['seconds']:.1f} s ({found['slowest']['file']})",
            )
        )
    header = ("files", "number", *_FINE, "anything else", "most memory of the decoder", "longest")
    return table(header, rows)


_FINE = ("answered", "refused", "refused at a limit")


def messages(report: Report) -> str:
    """What came of bad messages."""
    caller, wires = report["caller"], "gRPC and HTTP" if report["wire"] == "both" else report["wire"]
    rows = [
        ("messages", f"{report['messages']} by {wires}, {report['rate']:g} a second"),
        ("of these answered", str(report["answered"])),
        ("processes of the server that ended", ", ".join(report["processes_ended"]) or f"0 of {report['processes']}"),
        ("no answer within 20 s", str(report["hung"])),
        ("errors that show how the server is made", str(len(report["errors_that_show_internals"]))),
        ("answers of a well-behaved caller meanwhile", str(caller["answers"])),
        ("... lost, wrong", f"{len(caller['errors'])}, {caller['wrong']}"),
        ("... p99, ms: quiet", number(caller["p99_ms"]["quiet"])),
        ("... p99, ms: bad messages", number(caller["p99_ms"]["bad messages"])),
        ("... p99, ms: as many sound ones as bad ones were answered", number(caller["p99_ms"]["sound messages"])),
    ]
    return table(("bad messages", "found"), rows)


def faults(report: Report) -> str:
    """What came of killed and stopped processes."""
    rows = [(each["process"], each["what"], f"{each['recovery_s']:.1f} s") for each in report["faults"]]
    lost = (
        f"{report['answers']} answers, {sum(report['lost'].values())} lost, {report['wrong']} wrong; the slowest took "
    )
    return table(("process", "was", "answers again after"), rows) + f"\n\n{lost}{report['slowest_answer_s']:.1f} s."


def overload(report: Report) -> str:
    """What came of four times the capacity."""
    client = report["client"]
    rows = [
        ("capacity, answers a second", number(report["capacity"])),
        ("requests", f"{report['sent']} in {report['seconds']:g} s, {report['sent'] / report['seconds']:.0f} a second"),
        ("processes restarted", ", ".join(report["restarted"]) or "0"),
        ("refused: p99 at the server", f"{number(report['refusals_p99_ms'])} ms"),
        ("refused: p99 through a client that tries once", f"{number(client['refusals_p99_ms'])} ms"),
        (
            "accepted: within the deadline, too late",
            f"{report['accepted_within_deadline']}, {report['accepted_too_late']}",
        ),
        ("capacity is back after", f"{number(report['back_after_s'])} s"),
    ]
    return table(("overload", "found"), rows)


def soak(report: Report) -> str:
    """Growth of each process after the warm-up."""
    rows = [
        (
            name,
            f"{values[0]:.0f} .. {max(values):.0f} MB, {values[-1]:.0f} at the end",
            f"{number(report['memory_growth_percent'][name])} %",
            f"{number(report['descriptor_growth_percent'][name])} %",
        )
        for name, values in report["memory_mb"].items()
    ]
    time = f"{report['minutes']:g} minutes, of which {report['warm_up_minutes']:g} are warm-up"
    return table((time, "resident", "growth after warm-up", "of descriptors"), rows)
