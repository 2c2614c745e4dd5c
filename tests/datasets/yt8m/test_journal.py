import subprocess
import sys
from pathlib import Path

import pytest

from reelkind.datasets.yt8m.errors import WorkspaceError
from reelkind.datasets.yt8m.journal import open_journal, read_journal


def test_entries_are_found_again_and_the_last_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with open_journal(path) as journal:
        journal.append(id="a", answer=1)
        journal.append(id="b", answer="ü")
    with open_journal(path) as journal:
        journal.append(id="a", answer=2)
        assert journal.entries == read_journal(path)
    assert read_journal(path) == {"a": {"id": "a", "answer": 2}, "b": {"id": "b", "answer": "ü"}}


def test_a_line_cut_short_is_removed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "a"}\n{"id": "b", "ans')
    assert list(read_journal(path)) == ["a"]
    with open_journal(path) as journal:
        journal.append(id="c")
    assert path.read_text() == '{"id": "a"}\n{"id": "c"}\n'


@pytest.mark.parametrize("line", ["no json", "[]", '{"answer": 1}', '{"id": 3}'])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"id": "a"}}\n{line}\n')
    with (
        pytest.raises(WorkspaceError, match=r"a.jsonl, line 2 is damaged: delete the line"),
        open_journal(tmp_path / "a.jsonl"),
    ):
        pass


def test_two_processes_do_not_share_a_journal(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from reelkind.datasets.yt8m.journal import open_journal; "
        "open_journal(Path(sys.argv[1])).__enter__()"
    )
    with open_journal(tmp_path / "a.jsonl"):
        done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.jsonl"], capture_output=True, text=True)
    assert "a.jsonl is in use" in done.stderr
