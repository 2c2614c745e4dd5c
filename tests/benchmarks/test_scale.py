"""Places on an axis to a slope, and the page made of it."""

import pytest

from reelkind.benchmarks import reports, scale


def row(axis: str, place: float, ms: float, unit_ms: float) -> dict[str, object]:
    return {"axis": axis, "at": place, "ms": ms, "ms_low": ms, "ms_high": ms, "ms_a_unit": unit_ms}


def test_slope_is_that_of_the_line_and_the_first_place_is_the_measure() -> None:
    rows = [row("frames", n, 20 + 30 * n, (20 + 30 * n) / n) for n in (8, 16, 32)]
    found = scale.slopes([*rows, row("views", 1, 5, 5), row("views", 4, 20, 5)])
    assert found["frames"] == {"ms_a_unit_more": 30.0, "ms_at_none": 20.0, "last_to_first": 0.942}
    assert found["views"] == {"ms_a_unit_more": 5.0, "ms_at_none": 0.0, "last_to_first": 1.0}


def test_clients_are_charged_for_the_clips_they_got_together() -> None:
    calls: list[int] = []
    rows = scale.measure_axis("clients", {1: lambda: calls.append(1), 4: lambda: calls.append(4)}, repeats=2)
    assert sorted(calls) == [1, 1, 1, 4, 4, 4]  # one of each is for warming up
    assert [each["ms_a_unit"] for each in rows] == [each["ms"] for each in rows]
    lengths = scale.measure_axis("frames", {2: lambda: sum(range(10**6))}, repeats=1)
    assert lengths[0]["ms_a_unit"] == pytest.approx(lengths[0]["ms"] / 2, rel=1e-3)


def test_page_prints_the_slope() -> None:
    rows = [row("frames", n, 30 * n, 30) for n in (8, 16)]
    report = {"plan": {"repeats": 3}, "environment": {}, "slopes": scale.slopes(rows), "rows": rows}
    assert "| frames | 30 ms a frame more |" in scale.page(report)
    assert reports.as_csv(rows).splitlines()[1] == "frames,8,240,240,240,30"
