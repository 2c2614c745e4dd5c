"""What files were when they were made, and whether they still are."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from reelkind.core.files.checksums import SUMS_NAME, changed_in, is_as_recorded, record, sha256_of


def test_one_flipped_bit_is_found_and_another_files_note_stays(tmp_path: Path) -> None:
    one, other = tmp_path / "one file", tmp_path / "other"
    for path in (other, one):
        path.write_bytes(b"\x00" * 1000)
        record(path)
    assert is_as_recorded(one)
    one.write_bytes(b"\x00" * 999 + b"\x01")
    assert not is_as_recorded(one)
    assert is_as_recorded(other)
    record(one)
    assert is_as_recorded(one)
    assert len((tmp_path / SUMS_NAME).read_text().splitlines()) == 2


def test_a_file_of_which_nothing_is_noted_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    assert is_as_recorded(tmp_path / "a")
    assert sha256_of(tmp_path / "a") == "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"  # FIPS 180-2


def test_the_python_of_an_older_server_can_do_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(hashlib, "file_digest")  # of 3.11; servers have 3.10 as well
    (tmp_path / "a").write_bytes(bytes(3 << 20))
    record(tmp_path / "a")
    assert changed_in(tmp_path) == []
    assert sha256_of(tmp_path / "a") == hashlib.sha256(bytes(3 << 20)).hexdigest()
    (tmp_path / "a").unlink()
    assert changed_in(tmp_path) == ["a"]


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="coreutils are not installed")
def test_coreutils_read_what_is_noted(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    record(tmp_path / "a")
    command = ["sha256sum", "--check", "--strict", SUMS_NAME]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "a: OK")
    (tmp_path / SUMS_NAME).unlink()
    made = subprocess.run(["sha256sum", "--binary", "a"], cwd=tmp_path, check=True, capture_output=True, text=True)
    (tmp_path / SUMS_NAME).write_text(made.stdout)
    (tmp_path / "a").write_bytes(b"b")
    assert not is_as_recorded(tmp_path / "a")
