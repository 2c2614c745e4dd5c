"""What was measured of bulk jobs to tables, Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reelkind.benchmarks.reports import number, table

Report = Mapping[str, Any]


def page(report: Report) -> str:
    """All tables, and what was done."""
    parts = [f"# {report['what'][0].upper()}{report['what'][1:]}", robustness(report), speed(report), memory(report)]
    return "\n\n".join([*parts, f"Beside it ran: {report['beside']}."])


def robustness(report: Report) -> str:
    """Rows of the job that was left alone and of the one that was killed in parts."""
    head = (f"{report['videos']} videos, {report['bad']} of them bad", "rows", "error rows", "twice", "lost", "wrong")
    counted = ("rows", "errors", "duplicates", "lost", "wrong")
    kept = report["stormy"]["rows_kept_of_the_killed_driver"]
    names = {"calm": "left alone", "stormy": f"a worker, the driver (at {kept} rows) and tritonserver killed"}
    return table(head, [(name, *(str(report[job][key]) for key in counted)) for job, name in names.items()])


def speed(report: Report) -> str:
    """Throughput of the whole command, its start included, beside the plain loop and the peer."""
    plain, peer = report["plain_loop"]["videos_per_second"], report["peer"]
    rows = [("client loop, no Ray", str(report["videos"]), number(plain), "1", "")]
    for job in report["jobs"]:
        rate = job["videos_per_second"]
        rows.append(
            ("`reelkind bulk`", str(job["videos"]), number(rate), number(rate / plain), number(job["cpu_s_per_video"]))
        )
    rate = peer["videos_per_second"]
    rows.append(("Ray Data and PyTorch eager", str(peer["videos"]), number(rate), number(rate / plain), ""))
    return table(("job", "videos", "videos/s", "to the loop", "CPU s a video, of everything"), rows)


def memory(report: Report) -> str:
    """Anonymous memory of the processes of the largest job."""
    found = sorted(report["jobs"][-1]["memory_mib"], key=lambda each: -each["end"])
    rows = [
        (each["process"], *(number(each[moment]) for moment in ("quarter", "middle", "end")))
        for each in found
        if each["process"] != "other"
    ]
    return table(("MiB of", "after a quarter of its time", "half", "at its end"), rows)
