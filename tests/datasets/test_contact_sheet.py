from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reelkind.datasets.contact_sheet import CELL_PX, MARGIN_PX, MAX_ROWS, draw_contact_sheet
from reelkind.datasets.exclusions import Finding, Reason
from reelkind.video.clip import Clip, read_clip


def read(path: Path, num_frames: int) -> Clip:
    return read_clip(path, num_frames=num_frames, size_px=64)


def colour(path: Path, rgb: tuple[int, int, int]) -> Path:
    Image.new("RGB", (64, 64), rgb).save(path)
    return path


def test_a_row_shows_both_files_gravest_first(tmp_path: Path) -> None:
    red, blue = colour(tmp_path / "ré\nd.png", (255, 0, 0)), colour(tmp_path / "blue.png", (0, 0, 255))
    findings = [
        Finding(tmp_path / "gone.png", Reason.MISSING, "no such file"),
        Finding(blue, Reason.NEAR_DUPLICATE, "alike", red),
        Finding(red, Reason.LEAK, "alike", blue),
        Finding(tmp_path / "gone.png", Reason.MISLABELLED, "looks like flat", "flat"),
    ]
    sheet, num_left_out = draw_contact_sheet(findings, read, tmp_path)
    assert sheet is not None
    assert num_left_out == 0
    pixels, row_px = np.asarray(sheet), CELL_PX + MARGIN_PX
    assert len(pixels) == 3 * row_px
    second = 3 * CELL_PX + MARGIN_PX + CELL_PX // 2
    shown = [[pixels[row * row_px + 60, x].tolist() for x in (60, second)] for row in range(3)]
    assert shown == [
        [pytest.approx([255, 0, 0], abs=3), pytest.approx([0, 0, 255], abs=3)],
        [[128] * 3, [255] * 3],  # grey: unreadable; white: compared with no file
        [pytest.approx([0, 0, 255], abs=3), pytest.approx([255, 0, 0], abs=3)],
    ]


def test_nothing_to_look_at_gives_no_sheet(tmp_path: Path) -> None:
    assert draw_contact_sheet([Finding(tmp_path / "a", Reason.MISSING, "")], read, tmp_path) == (None, 0)


def test_a_sheet_has_an_end(tmp_path: Path) -> None:
    findings = [Finding(tmp_path / "a", Reason.MISLABELLED, "", "flat")] * (MAX_ROWS + 5)
    sheet, num_left_out = draw_contact_sheet(findings, read, tmp_path)
    assert sheet is not None
    assert (sheet.height, num_left_out) == (MAX_ROWS * (CELL_PX + MARGIN_PX), 5)
