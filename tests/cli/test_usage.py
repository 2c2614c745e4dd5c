"""Options that are of no use are said before any work, with the status of wrong usage."""

import re
import shlex
from pathlib import Path

import pytest

from reelkind.cli import promote
from reelkind.cli.main import build_parser, main


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["classify", "--attention", "a.mp4"], "--attention, --embedding and --subcategories are for --jsonl"),
        (["classify", "--embedding", "--csv", "a.mp4"], "--attention, --embedding and --subcategories are for --jsonl"),
        (["timeline", "--windows", "a.mp4"], "--windows and --embeddings are for --jsonl"),
        (["timeline", "--embeddings", "--csv", "a.mp4"], "--windows and --embeddings are for --jsonl"),
        (["serve", "--trace-rate", "5"], "--trace-rate needs --trace-otlp or --trace-file, which say where traces go"),
        (["serve", "--tls-cert", "a.pem"], "TLS needs both --tls-cert and --tls-key"),
        (["classify", "--url", "nonsense", __file__], "address"),
        (["classify", "--url", "127.0.0.1:1", "--header", "a b=c", __file__], "header"),
        (["classify", "--tls", __file__], "encryption is for a server elsewhere: name it with --url"),
    ],
    ids=["attention", "embedding", "windows", "embeddings", "trace-rate", "tls", "url", "header", "tls-of-nobody"],
)
def test_useless_options_are_said(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REELKIND_URL", raising=False)
    status, captured = main(arguments), capsys.readouterr()
    assert (status, captured.out) == (2, "")
    assert captured.err.startswith("reelkind: ")
    assert sentence in captured.err
    assert len(captured.err.splitlines()) == 1


def test_promote_asks_the_same_server_as_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    assert promote.URL_VARIABLE == "REELKIND_URL"
    for url, expected in (("10.0.0.7:9001", "10.0.0.7:9001"), ("", "127.0.0.1:8001")):
        monkeypatch.setenv("REELKIND_URL", url)
        assert build_parser().parse_args(["promote", "bundles/lite"]).url == expected


@pytest.mark.parametrize("name", ["-film.mp4", "--film.mp4", "-v.mp4"])
def test_a_name_that_begins_as_options_do_is_hinted_at(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["classify", name])
    assert "./" not in capsys.readouterr().err, "there is no such file"
    Path(name).touch()
    with pytest.raises(SystemExit, match="2"):
        main(["classify", name])
    assert f"reelkind: {name} is taken for an option: write ./{name} for" in capsys.readouterr().err


def test_help_tells_no_defaults_that_are_none(capsys: pytest.CaptureFixture) -> None:
    from reelkind.cli.completion import places

    for _, parser in places(build_parser()):
        assert "default: None" not in parser.format_help()
        assert "default: False" not in parser.format_help()


PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "line", re.findall(r"(?m)^.*\breelkind [^`]*$", "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.S)))
)
def test_every_command_of_the_page_can_be_understood(line: str) -> None:
    command = re.search(r"\breelkind [^#|>)]*", line.split("|")[-1])
    assert command is not None
    build_parser().parse_args(shlex.split(command[0])[1:])
