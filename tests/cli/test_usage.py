"""Options that are of no use are said before any work, with the status of wrong usage."""

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
        (["classify", "--url", "nonsense", "a.mp4"], "address"),
        (["classify", "--url", "127.0.0.1:1", "--header", "a b=c", "a.mp4"], "header"),
        (["classify", "--tls", "a.mp4"], "encryption is for a server elsewhere: name it with --url"),
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
