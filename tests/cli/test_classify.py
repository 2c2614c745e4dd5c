"""`reelkind classify` against the stand-in server: what is printed where, and how it ends."""

import argparse
import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from http_standin import HttpStandin
from PIL import Image
from standin import EMBEDDING_DIM, StandinServer, expected_probabilities
from videos import bars, write_video

from reelkind import bundles
from reelkind.cli import classify
from reelkind.cli.options import connecting
from reelkind.cli.output.report import num_columns
from reelkind.cli.output.talk import EXIT_BROKEN_PIPE
from reelkind.client import Client, InlineDecoder, InvalidOption, TlsFailed
from reelkind.core.errors import ReelkindError
from reelkind.core.taxonomy.classes import CLASSES
from reelkind.video.clip import read_clip

CLIP, LITE, LITE2 = (str(Path(bundles.__file__).with_name(name)) for name in ("clip", "lite", "lite2"))


@pytest.fixture(scope="module")
def clip_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / "a.mp4", 50)


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode in this process: starting others takes a second a test."""
    monkeypatch.setattr(connecting, "decoder", lambda args, stack: InlineDecoder(seek=args.seek))


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser(prog="reelkind")
    classify.add_parser(parser.add_subparsers())
    args = parser.parse_args(["classify", *map(str, arguments)])
    status: int = args.run(args)
    return status


pytestmark = pytest.mark.usefixtures("inline")


def test_json_lines_hold_the_answer(standin: StandinServer, clip_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("--url", standin.url, "--jsonl", clip_path) == 0
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    expected = expected_probabilities(read_clip(clip_path, num_frames=4, size_px=32).frames[None])[0]
    assert list(answer["scores"]) == list(CLASSES)
    assert list(answer["scores"].values()) == pytest.approx(expected.tolist(), abs=1e-5)
    assert (answer["path"], answer["error"]) == (str(clip_path), None)
    assert answer["confidence"] == answer["scores"][answer["label"]]
    assert set(answer["timings_ms"]) == {"decode", "infer", "total"}
    assert (answer["model"]["untrained"], answer["reason"], answer["from_cache"]) == ([], None, False)
    assert "attention" not in answer
    assert captured.err == ""


def test_attention_is_added_on_request(standin: StandinServer, clip_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("--url", standin.url, "--jsonl", "--attention", clip_path) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["attention"] == [0.25] * 4
    assert answer["times_ms"] == [240, 720, 1240, 1720]


@pytest.fixture
def mixed_path(tmp_path: Path) -> Path:
    """Half red, half green: animation and gaming to the stand-in, the one and the other 0.95 sure."""

    def halves(index: int, width_px: int, height_px: int) -> np.ndarray:
        colour = (255, 0, 0) if index < 20 else (0, 255, 0)
        return np.broadcast_to(np.array(colour, np.uint8), (height_px, width_px, 3)).copy()

    return write_video(tmp_path / "mixed.mp4", 40, size_px=(64, 64), picture=halves)


WARNING = "frames disagree (animation 50%, gaming 50% of them): a timeline tells which kind is shown when"


def test_frames_that_disagree_are_warned_of_below_the_video(
    standin: StandinServer, clip_path: Path, mixed_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run("--url", standin.url, clip_path, mixed_path, clip_path) == 0
    header, plain, mixed, warning, last = capsys.readouterr().out.splitlines()
    assert warning.strip() == WARNING
    assert warning.index("frames") == header.index("LABEL")
    assert mixed.split()[1] in ("animation", "gaming")
    assert plain.split()[1] == last.split()[1] == "animation"


def test_key_frames_that_stand_in_are_warned_of(
    standin: StandinServer, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = write_video(tmp_path / "long.mp4", 100, gop=10)
    assert run("--url", standin.url, "--jsonl", "--seek", "keyframes", path) == 0
    (warning,) = json.loads(capsys.readouterr().out)["warnings"]
    assert warning.startswith("4 of 4 frames are key frames before their instants")
    for seek in ("auto", "exact"):
        assert run("--url", standin.url, "--jsonl", "--seek", seek, path) == 0
        assert json.loads(capsys.readouterr().out)["warnings"] == []


def test_json_and_csv_have_warnings(
    standin: StandinServer, clip_path: Path, mixed_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run("--url", standin.url, "--jsonl", "--attention", clip_path, mixed_path) == 0
    plain, mixed = map(json.loads, capsys.readouterr().out.splitlines())
    assert (plain["warnings"], mixed["warnings"]) == ([], [WARNING])
    assert [max(range(4), key=frame.__getitem__) for frame in mixed["frame_scores"]] == [0, 0, 1, 1]
    assert run("--url", standin.url, "--jsonl", mixed_path) == 0
    short = json.loads(capsys.readouterr().out)
    assert short["warnings"] == [WARNING]
    assert "frame_scores" not in short
    assert run("--url", standin.url, "--csv", clip_path, mixed_path) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["warnings"] for row in rows] == ["", WARNING]


def test_the_embedding_is_added_on_request(
    standin: StandinServer, clip_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run(clip_path, "--url", standin.url, "--jsonl", "--embedding") == 0
    raw = json.loads(capsys.readouterr().out)
    assert raw["embedding"] == [1.0] * EMBEDDING_DIM
    assert "attention" not in raw


def test_answers_keep_the_order_and_number_of_the_arguments(
    standin: StandinServer, clip_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = [clip_path, tmp_path, clip_path, tmp_path / "nope.mp4", clip_path, tmp_path]
    assert run("--url", standin.url, "--jsonl", *arguments) == 1
    captured = capsys.readouterr()
    answers = [json.loads(line) for line in captured.out.splitlines()]
    assert [answer["path"] for answer in answers] == [str(path) for path in arguments]
    empty, missing = "no videos or features files in this folder", "no such file"
    assert [answer["error"] for answer in answers] == [None, empty, None, missing, None, empty]
    assert all(answer["label"] is None for answer in answers if answer["error"])
    assert len({frozenset(answer) for answer in answers}) == 1, "every object has the same keys"
    assert captured.err == "reelkind: 3 of 6 without an answer\n"


def test_csv_has_a_column_a_class(standin: StandinServer, clip_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("--url", standin.url, "--csv", clip_path, "nope,\n.mp4") == 1
    good, bad = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert sum(float(good[name]) for name in CLASSES) == pytest.approx(1, abs=1e-5)
    assert (good["label"], good["error"], good["untrained"], good["members"]) == ("animation", "", "", "lite")
    assert (bad["path"], bad["label"], bad["error"]) == ("nope,\n.mp4", "", "no such file")
    assert None not in {*good.values(), *bad.values()}, "every row has all columns"


def test_the_table_is_aligned_and_one_line_a_video(
    standin: StandinServer, clip_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run("--url", standin.url, "--top-k", "2", clip_path, "two\nlines.mp4") == 1
    header, good, bad = capsys.readouterr().out.splitlines()
    column = header.index("LABEL")
    assert good[column:].startswith("animation")
    assert "█" in good
    assert good.startswith("…")
    assert "gaming" in good
    assert bad.startswith(r"two\nlines.mp4")
    assert bad[column:] == "-          no such file"


def test_subcategories_have_a_column_where_the_server_names_some(
    standin: StandinServer, clip_path: Path, capsys: pytest.CaptureFixture
) -> None:
    standin.subcategories_learnt = ("anime_mecha", "moba")
    assert run("--url", standin.url, clip_path, "nope.mp4") == 1
    header, good, bad = capsys.readouterr().out.splitlines()
    column, next_column = header.index("SUBCATEGORY"), header.index("CONFIDENCE")
    assert good[column:next_column].strip() == "anime_mecha"
    assert "█" in good[next_column:]
    assert bad[next_column:] == "no such file"
    standin.subcategories_learnt = None
    assert run("--url", standin.url, clip_path) == 0
    assert "SUBCATEGORY" not in capsys.readouterr().out


def test_json_and_csv_have_the_subcategory(
    standin: StandinServer, clip_path: Path, capsys: pytest.CaptureFixture
) -> None:
    standin.subcategories_learnt = ("anime_mecha", "moba")
    assert run("--url", standin.url, "--jsonl", clip_path, "nope.mp4") == 1
    good, bad = map(json.loads, capsys.readouterr().out.splitlines())
    assert (good["subcategory"], set(good["subcategories"])) == ("anime_mecha", {"anime_mecha", "moba"})
    assert (bad["subcategory"], bad["subcategories"]) == (None, None)
    assert run("--url", standin.url, "--jsonl", "--subcategories", clip_path) == 0
    assert len(json.loads(capsys.readouterr().out)["subcategories"]) == 46
    assert run("--url", standin.url, "--csv", clip_path) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["subcategory"] == "anime_mecha"
    assert float(row["subcategory_confidence"]) == pytest.approx(good["subcategory_confidence"])


@pytest.mark.parametrize("shape", ["--jsonl", "--csv", "--top-k=1"])
def test_an_untrained_model_is_labelled_everywhere(
    standin: StandinServer, clip_path: Path, capsys: pytest.CaptureFixture, shape: str
) -> None:
    standin.parameters["untrained"] = "lite"
    assert run("--url", standin.url, shape, clip_path) == 0
    captured = capsys.readouterr()
    said = {"--jsonl": '"untrained": ["lite"]', "--csv": ",lite,lite\n", "--top-k=1": "(untrained)"}
    assert said[shape] in captured.out
    assert "of random weights, UNTRAINED: lite; labels mean nothing" in captured.err


@pytest.mark.parametrize("shape", ["--jsonl", "--csv", "--top-k=1"])
def test_an_uncertain_answer_has_a_reason_in_place_of_a_label(
    standin: StandinServer, clip_path: Path, capsys: pytest.CaptureFixture, shape: str
) -> None:
    standin.parameters["abstain_below"] = "0.9"
    for option in (["--abstain"], ["--abstain-below", "0.9"]):
        assert run("--url", standin.url, shape, *option, clip_path) == 0, "an answer, if no label"
        out = capsys.readouterr().out
        assert "is below 0.900, the threshold" in out
        if shape == "--jsonl":
            answer = json.loads(out)
            assert (answer["label"], answer["error"]) == (None, None)
            assert sum(answer["scores"].values()) == pytest.approx(1, abs=1e-5)
        elif shape == "--csv":
            (row,) = csv.DictReader(io.StringIO(out))
            assert (row["label"], row["error"]) == ("", "")
            assert row["reason"].startswith("confidence")
        else:
            row = out.splitlines()[1]
            assert "  ?  " in row
            assert "animation" in row


def test_a_server_by_http_answers_too(
    http_standin: HttpStandin, clip_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run("--url", http_standin.url, "--jsonl", clip_path) == 0
    assert json.loads(capsys.readouterr().out)["label"] == "animation"


def test_encryption_reaches_the_client(standin: StandinServer, clip_path: Path, tmp_path: Path) -> None:
    with pytest.raises(TlsFailed, match="it does not encrypt"):
        run("--url", standin.url, "--tls", clip_path)
    with pytest.raises(TlsFailed, match=r"ca\.pem: no certificates can be read"):
        run("--url", standin.url, "--tls-ca", tmp_path / "ca.pem", clip_path)
    with pytest.raises(InvalidOption, match="--tls-cert and --tls-key"):
        run("--url", standin.url, "--tls-cert", "x", clip_path)


def test_encryption_needs_a_server_by_name(clip_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(connecting.URL_VARIABLE, raising=False)
    with pytest.raises(InvalidOption, match="name it with --url"):
        run("--tls", clip_path)


def test_folders_are_searched_and_a_picture_needs_its_name(
    standin: StandinServer, clip_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("z.MP4", "b/a.mkv", "b/c/x.webm", "a.mov"):
        shutil.copy(clip_path, tmp_path / name)
    Image.fromarray(bars(5, 160, 96)).save(tmp_path / "still.png")
    (tmp_path / "notes.txt").write_text("x")
    assert run("--url", standin.url, "--jsonl", tmp_path, tmp_path / "still.png") == 0
    found = [json.loads(line)["path"] for line in capsys.readouterr().out.splitlines()]
    assert found == [str(tmp_path / name) for name in ("a.mov", "z.MP4", "b/a.mkv", "b/c/x.webm", "still.png")]


def test_a_list_on_stdin_may_hold_any_name(
    standin: StandinServer, clip_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary
) -> None:
    odd = os.fsencode(tmp_path) + b"/\xff \xc3\xbc.mp4"
    shutil.copy(clip_path, odd)
    listed = odd + b"\n\n" + os.fsencode(clip_path) + b"\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed)))
    assert run("--url", standin.url, "--jsonl", "-", clip_path) == 0
    lines = capsysbinary.readouterr().out.splitlines()
    assert [os.fsencode(json.loads(line)["path"]) for line in lines] == [odd, *[os.fsencode(clip_path)] * 2]


def test_undecodable_names_pass_through_csv_byte_for_byte(
    standin: StandinServer, clip_path: Path, tmp_path: Path, capsysbinary
) -> None:
    odd = os.fsencode(tmp_path) + b"/\xff.mp4"
    shutil.copy(clip_path, odd)
    assert run("--url", standin.url, "--csv", os.fsdecode(odd)) == 0
    assert odd + b",animation" in capsysbinary.readouterr().out


def test_an_empty_list_is_said_and_needs_no_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for shape, num_lines in (("--jsonl", 0), ("--csv", 1)):
        monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
        assert run("--url", "127.0.0.1:1", shape, "-") == 0
        captured = capsys.readouterr()
        assert captured.err == "reelkind: no paths on standard input\n"
        assert len(captured.out.splitlines()) == num_lines, "a CSV has its header"


@pytest.mark.parametrize("by_variable", [False, True])
def test_a_named_server_that_is_away_is_an_error_and_not_replaced(
    standin: StandinServer, clip_path: Path, monkeypatch: pytest.MonkeyPatch, by_variable: bool
) -> None:
    standin.stop()
    monkeypatch.setenv(connecting.URL_VARIABLE, standin.url if by_variable else "unused:1")
    with pytest.raises(ReelkindError, match=f"no server answers at {standin.url}"):
        run(*([] if by_variable else ["--url", standin.url]), clip_path)


@pytest.mark.parametrize(
    ("arguments", "folders", "models"),
    [
        ([], [CLIP], {"classify"}),
        (["--tta", "fast"], [CLIP], {"classify_tta_fast"}),
        (["--member", "lite"], [LITE], {"classify_lite"}),
        (["--bundle", LITE], [LITE], {"classify"}),
        (["--bundle", LITE, "--bundle", LITE2], [LITE, LITE2], {"classify_ensemble"}),
        (["--bundle", LITE, "--bundle", LITE2, "--member", "lite"], [LITE, LITE2], {"classify_lite"}),
    ],
    ids=["packaged", "augmented", "packaged-member", "one-bundle", "two-bundles", "one-of-two"],
)
def test_without_a_server_one_is_started_with_what_the_run_needs(
    standin: StandinServer,
    clip_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    arguments: list[str],
    folders: list[str],
    models: set[str],
) -> None:
    started: list[list[str]] = []

    @contextmanager
    def embedded_server(given, *, ensembles, **_) -> Iterator[StandinServer]:
        started.append(list(map(str, given)))
        assert models <= set(ensembles)
        assert len(ensembles) <= 3, "models that nobody asks would only take time"
        yield standin

    away = StandinServer()
    away.start()
    away.stop()
    monkeypatch.setattr("reelkind.deployment.embedded.embedded_server", embedded_server)
    monkeypatch.setattr("reelkind.client.DEFAULT_URL", away.url)
    monkeypatch.delenv(connecting.URL_VARIABLE, raising=False)
    assert run("--jsonl", clip_path, *arguments) == 0
    assert started == [folders]
    answer = json.loads(capsys.readouterr().out)
    assert (answer["label"], {answer["model"]["ensemble"]}) == ("animation", models)


def test_a_member_that_a_run_would_not_have_is_said_before_a_server_is_started(clip_path: Path) -> None:
    with pytest.raises(InvalidOption, match="has only lite, not lite2: add others by --bundle"):
        run("--bundle", LITE, "--member", "lite2", clip_path)
    with pytest.raises(InvalidOption, match="has only lite, not ensemble"):
        run("--bundle", LITE, "--member", "ensemble", clip_path)


def test_a_server_at_the_default_address_is_used(
    standin: StandinServer, clip_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("reelkind.client.DEFAULT_URL", standin.url)
    monkeypatch.delenv(connecting.URL_VARIABLE, raising=False)
    assert run("--jsonl", clip_path) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["x.mp4", "--jsonl", "--csv"],
        ["x.mp4", "--jobs", "0"],
        ["x.mp4", "--top-k", "many"],
        ["x.mp4", "--timeout", "-1"],
        ["x.mp4", "--timeout", "nan"],
        ["x.mp4", "--decode-timeout", "1e7"],
        ["x.mp4", "--url", "a:1", "--bundle", "b"],
        ["x.mp4", "--tta", "much"],
        ["x.mp4", "--abstain-below", "1.1"],
        ["x.mp4", "--abstain", "--abstain-below", "0.5"],
        ["x.mp4", "--header", "no-equals-sign"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(*arguments)
    assert "usage:" in capsys.readouterr().err


def test_help_names_the_defaults_of_the_client() -> None:
    from reelkind.client import DEFAULT_URL, options
    from reelkind.core.specs import TTA
    from reelkind.video import decoding

    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    classify.add_parser(subparsers)
    text = " ".join(subparsers.choices["classify"].format_help().split())
    assert tuple(TTA) == connecting.TTA
    for default in (DEFAULT_URL, f"{{{','.join(TTA)}}}", f"(default: {options.TIMEOUT_S:g})"):
        assert default in text
    assert f"(default: {decoding.DECODE_TIMEOUT_S:g})" in text


def test_an_error_is_a_sentence_and_not_a_traceback(standin: StandinServer, clip_path: Path) -> None:
    standin.stop()
    process = start("--url", standin.url, clip_path)
    out, said = process.communicate(timeout=120)
    assert (process.returncode, out) == (1, "")
    assert said.startswith("reelkind: no server answers at")
    assert len(said.splitlines()) == 1


def test_what_the_system_refuses_is_a_sentence(standin: StandinServer, clip_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        process = start("--url", standin.url, "--jsonl", clip_path, stdout=full)
    said = process.communicate(timeout=120)[1]
    assert (process.returncode, said) == (1, "reelkind: No space left on device\n")


def test_closed_streams_are_no_error(standin: StandinServer, clip_path: Path) -> None:
    command = [sys.executable, "-m", "reelkind.cli.main", "classify", "--url", standin.url, str(clip_path), "-"]
    done = subprocess.run(["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *command], timeout=120, check=False)
    assert done.returncode == 0


def test_options_reach_the_client(standin: StandinServer, clip_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Client] = []

    class Recorded(Client):
        def __init__(self, *args, **options) -> None:
            super().__init__(*args, **options)
            made.append(self)

    monkeypatch.setattr("reelkind.client.Client", Recorded)
    said = ["--timeout", "7", "--member", "lite", "--header", "authorization=Bearer a=b"]
    assert run("--url", standin.url, *said, "--jsonl", clip_path) == 0
    assert made[0]._session._timeout_s == 7
    assert standin.asked == ["classify_lite"]
    assert standin.metadata["authorization"] == "Bearer a=b"


def start(*arguments: object, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "reelkind.cli.main", "classify", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **{"stdout": subprocess.PIPE, **options})


def test_worker_processes_and_a_closed_pipe_end_quietly(standin: StandinServer, clip_path: Path) -> None:
    process = start("--url", standin.url, "--jsonl", *[clip_path] * 3000)
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["label"] == "animation"
    process.stdout.close()
    assert process.wait(20) == EXIT_BROKEN_PIPE
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.parametrize(
    ("end", "number", "status", "said"),
    [
        (os.killpg, signal.SIGINT, 130, "reelkind: interrupted\n"),  # as a terminal does, to the workers too
        (os.kill, signal.SIGTERM, 143, ""),
        (os.kill, signal.SIGKILL, -9, ""),
    ],
    ids=["ctrl-c", "terminate", "kill"],
)
def test_a_signal_ends_the_run_and_its_workers(
    standin: StandinServer, clip_path: Path, end: Callable[[int, int], None], number: int, status: int, said: str
) -> None:
    standin.hold.clear()
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a background shell job ignores it, and its children
    try:
        process = start("--url", standin.url, "--jsonl", *[clip_path] * 20, start_new_session=True)
    finally:
        signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 60
    while not standin.requests:
        assert process.poll() is None
        assert time.monotonic() < deadline, "nothing was asked"
        time.sleep(0.01)
    end(process.pid, number)
    assert process.communicate(timeout=120)[1] == said
    assert process.returncode == status
    deadline = time.monotonic() + 60  # Python's own resource tracker leaves a moment later
    while _group_lives(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("options", [[], ["--no-progress"]], ids=["bar", "no-bar"])
def test_a_terminal_gets_a_bar_that_leaves_nothing_behind(
    standin: StandinServer,
    clip_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    options: list[str],
) -> None:
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr("reelkind.cli.output.printing.BAR_DELAY_S", 0)
    assert run("--url", standin.url, "--jsonl", *options, *[clip_path] * 5) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert ("5/5" in shown.getvalue() or "4/5" in shown.getvalue()) == (not options)
    assert shown.getvalue().rpartition("\r")[2].strip() == ""


def test_a_list_may_end_its_paths_with_null_bytes(
    standin: StandinServer, clip_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    odd = tmp_path / "two\nlines.mp4"
    shutil.copy(clip_path, odd)
    listed = b"\0".join(map(os.fsencode, [odd, clip_path, odd])) + b"\0"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed)))
    assert run("--url", standin.url, "--jsonl", "-0", "-") == 0
    found = [json.loads(line)["path"] for line in capsys.readouterr().out.splitlines()]
    assert found == [str(odd), str(clip_path), str(odd)]


@pytest.mark.parametrize("shape", ["--jsonl", "--csv", "--top-k=1"])
def test_results_go_to_a_file_whole(
    standin: StandinServer, clip_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture, shape: str
) -> None:
    odd = tmp_path / os.fsdecode(b"\xff.mp4")
    shutil.copy(clip_path, odd)
    out = tmp_path / "answers"
    assert run("--url", standin.url, shape, "--output", out, clip_path, odd, "nope.mp4") == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "reelkind: 1 of 3 without an answer\n")
    written = out.read_text(errors="surrogateescape")
    assert len(written.splitlines()) == (3 if shape == "--jsonl" else 4)
    assert "no such file" in written


def test_results_that_fail_on_the_way_leave_the_file_as_it_was(
    standin: StandinServer, clip_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "answers"
    out.write_text("of yesterday")
    standin.stop()
    with pytest.raises(ReelkindError, match="no server answers"):
        run("--url", standin.url, "-o", out, clip_path)
    assert out.read_text() == "of yesterday"
    assert list(tmp_path.iterdir()) == [out]
    assert capsys.readouterr().out == ""


def test_who_watches_a_folder_pass_is_told_the_sums(
    standin: StandinServer, clip_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("--url", standin.url, clip_path, clip_path, "nope.mp4") == 1
    assert capsys.readouterr().err == "reelkind: 1 of 3 without an answer\n", "nobody watches a pipe"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run("--url", standin.url, clip_path, clip_path, "nope.mp4") == 1
    assert capsys.readouterr().err.startswith("reelkind: 3 videos: 2 animation, 1 without an answer\n")
    assert run("--url", standin.url, clip_path) == 0
    assert run("--url", standin.url, "--jsonl", clip_path, clip_path) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("shape", ["--jsonl", "--csv", "--top-k=1"])
def test_no_server_is_asked_or_started_for_files_that_are_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    monkeypatch.delenv(connecting.URL_VARIABLE, raising=False)
    monkeypatch.setattr("reelkind.deployment.opening.find_or_start", None)
    assert run(shape, tmp_path / "nope.mp4", tmp_path) == 1
    out = capsys.readouterr().out
    assert "no such file" in out
    assert "no videos or features files in this folder" in out


def test_wide_characters_and_short_names_are_aligned(
    standin: StandinServer, clip_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.chdir(tmp_path)
    names = ["a.mp4", "映画.mp4", "e\u0301.mp4", "とても長い映画の名前.mp4"]
    for name in names:
        shutil.copy(clip_path, name)
    assert run("--url", standin.url, *names) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    column = header.index("LABEL")
    assert [num_columns(row[: row.index("animation")]) for row in rows] == [column] * 4
    assert rows[-1].startswith("…")
    shutil.copy(clip_path, "b")
    assert run("--url", standin.url, "b") == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.index("LABEL") == row.index("animation")
