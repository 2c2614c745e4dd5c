"""The command line of ``reelkind bench``: what is asked for, what is refused, what is written."""

import json
from pathlib import Path
from typing import Any

import pytest

from reelkind.benchmarks import decode, scale
from reelkind.benchmarks.load import serve
from reelkind.benchmarks.numbered_video import Made
from reelkind.benchmarks.peers import peers
from reelkind.cli.main import main

REPORT: dict[str, Any] = {"tool": "t", "environment": {}, "plan": {"repeats": 1}, "rows": []}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What ``serve.measure`` was given; it answers with an empty report."""
    seen: dict[str, Any] = {}

    def measure(plan: serve.Plan, folders: Any, url: str | None, **options: Any) -> dict[str, Any]:
        seen.update(plan=plan, folders=folders, url=url, **options)
        return REPORT

    monkeypatch.setattr(serve, "measure", measure)
    return seen


def test_serve_takes_loads_from_the_command_line(asked: dict[str, Any]) -> None:
    arguments = "--member lite --model classify --concurrency 1 3 --rate 0.5 --tensors wire --repeats 2 --window 1.5"
    assert main(["bench", "serve", *arguments.split()]) == 0
    plan = asked["plan"]
    assert (plan.models, plan.concurrencies, plan.shares) == (("classify",), (1, 3), (0.5,))
    assert (plan.ways, plan.repeats, plan.window_s) == ((False,), 2, 1.5)
    assert plan.batches == serve.Plan().batches
    assert [folder.name for folder in asked["folders"]] == ["lite"]


def test_serve_quick_is_the_quick_plan_of_the_default_member(asked: dict[str, Any]) -> None:
    assert main(["bench", "serve", "--quick"]) == 0
    assert (asked["plan"], asked["quick"]) == (serve.QUICK, True)
    assert [folder.name for folder in asked["folders"]] == ["clip"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("serve --url 127.0.0.1:1 --member lite", "--url"),
        ("serve --member nonsense", "nonsense"),
    ],
)
def test_options_that_do_not_go_together_are_misuse(
    arguments: str, complaint: str, asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments.split()]) == 2
    assert complaint in capsys.readouterr().err
    assert not asked


@pytest.mark.parametrize("arguments", ["serve --rate 9", "serve --window 0", "peers --callers 0", "decode --frames x"])
def test_wrong_numbers_are_misuse(arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", *arguments.split()])
    assert ended.value.code == 2


def test_rows_that_failed_are_a_failure(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [serve.row(serve.Load("classify", 1), [], is_ensemble=True, failure="refused")]
    monkeypatch.setattr(serve, "measure", lambda *given, **options: REPORT | {"rows": rows})
    assert main(["bench", "serve"]) == 1


@pytest.mark.parametrize(("verb", "module"), [("peers", peers), ("scale", scale)])
def test_unknown_members_are_refused(verb: str, module: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", verb, "--member", "nonsense"]) != 0
    assert "nonsense" in capsys.readouterr().err


def test_decode_writes_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(decode, "QUICK", (Made("h264", 144, 11, 1),))
    file = tmp_path / "decode.json"
    arguments = ["--quick", "--frames", "3", "--repeats", "1", "--reader", "pyav", "--videos", str(tmp_path / "videos")]
    assert main(["bench", "decode", *arguments, "--json", str(file)]) == 0
    report = json.loads(file.read_text())
    assert [(row["name"], row["wrong_frames"]) for row in report["rows"]] == [("reelkind", 0), ("pyav", 0)]
    assert report["environment"]["cores"]
    assert file.with_suffix(".csv").read_text().count("\n") == 3
    assert "h264 144p" in capsys.readouterr().out
    assert "h264 144p" in file.with_suffix(".md").read_text()
