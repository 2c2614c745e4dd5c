"""What was measured of bulk jobs to tables, Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reelkind.benchmarks.reports import number, table

Report = Mapping[str, Any]

HOURS = 1_000_000  # of the job on paper
MINUTES_EACH, MBIT_PER_S = 6, 2.0  # of its videos: assumed
GBIT_PER_S = 10.0  # of its line: assumed


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
    rows = [
        (
            "client loop, no Ray",
            str(report["videos"]),
            number(plain),
            "1",
            number(report["plain_loop"].get("cpu_s_per_video")),
        )
    ]
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


def cost(steps: Report, report: Report) -> str:
    """What a million hours of video cost, from what each step was measured to.

    Args:
        steps: of ``unit_costs``.
        report: of ``jobs``, for the bytes of a row.
    """
    num_videos, num_bytes = HOURS * 60 / MINUTES_EACH, HOURS * 3600 * MBIT_PER_S / 8 * 1e6

    def core_hours(cpu_s: float) -> str:
        return f"{cpu_s / 3600:,.0f} core-hours"

    rows = [
        ("network", f"assumed: {MBIT_PER_S:g} Mbit/s of video", f"{num_bytes / 1e12:,.0f} TB"),
        ("", f"assumed: a line of {GBIT_PER_S:g} Gbit/s", f"{num_bytes * 8 / (GBIT_PER_S * 1e9) / 3600:,.0f} hours"),
    ]
    by_http = steps["fetching_cpu_s_per_gb"]["http"]
    rows.append(("fetching and hashing, HTTP", f"{by_http:g} CPU s a GB", core_hours(by_http * num_bytes / 1e9)))
    for each in steps["decoding"]:
        what = f"{each['height']}p, {each['seconds'] / 60:g} min, a keyframe every {each['keyframe_every_s']:g} s"
        seconds = each["clip_cpu_s"]
        rows.append((f"decoding a clip: {what}", f"{seconds:g} CPU s a video", core_hours(seconds * num_videos)))
    for each in steps["decoding"]:
        seconds = each["whole_cpu_s_per_hour"]
        what = f"{each['height']}p, a keyframe every {each['keyframe_every_s']:g} s"
        rows.append(
            (f"reading all of it for `--timeline`: {what}", f"{seconds:g} CPU s an hour", core_hours(seconds * HOURS))
        )
    for each in steps["inference"]:
        seconds, what = each["clip_cpu_s"], f"`{each['member']}`, {each['frames']} frames, on a CPU"
        rows.append((f"inference: {what}", f"{seconds:g} CPU s a clip", core_hours(seconds * num_videos)))
    row_bytes = report["jobs"][-1]["bytes_per_row"]
    rows.append(("storage, without embeddings", f"{row_bytes:g} bytes a row", f"{row_bytes * num_videos / 1e9:.2g} GB"))
    return table(("step", "measured", f"{HOURS:,} hours, {num_videos:,.0f} videos"), rows)
