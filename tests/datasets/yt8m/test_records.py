from pathlib import Path

import numpy as np
import pytest

from reelkind.datasets.yt8m.errors import RecordError
from reelkind.datasets.yt8m.records import (
    FrameRecord,
    LabelledId,
    Segment,
    dequantise,
    read_frame_records,
    read_labels,
)
from reelkind.datasets.yt8m.tfrecord import write_records

from .made_records import made_record, write_frame_records, write_video_records

SAMPLE = Path(__file__).parents[4] / "shared/data/yt8m/yt8m_frame_sample_1rec.tfrecord"


def field(number: int, content: bytes) -> bytes:
    """A length-delimited protobuf field, by hand."""
    length, size = b"", len(content)
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def named(name: str, kind: int, value: bytes) -> bytes:
    """An entry of ``map<string, Feature>``: kind 1 bytes, 2 floats, 3 integers."""
    return field(1, field(1, name.encode()) + field(2, field(kind, value)))


def frames_by_hand(video_id: bytes, labels: bytes, rgb: list[bytes]) -> bytes:
    """A SequenceExample on the wire, without protobuf."""
    context = named("id", 1, field(1, video_id)) + named("labels", 3, field(1, labels))
    rows = b"".join(field(1, field(1, field(1, row))) for row in rgb)
    return field(1, context) + field(2, field(1, field(1, b"rgb") + field(2, rows)))


def test_the_wire_format_is_read_as_tensorflow_defines_it(tmp_path: Path) -> None:
    rows = [bytes([7]) * 1024, bytes(range(256)) * 4]
    write_records(tmp_path / "a.tfrecord", [frames_by_hand(b"AbC9", bytes([11, 0x8A, 0x02]), rows)])
    (record,) = read_frame_records(tmp_path / "a.tfrecord")
    assert (record.id, record.labels) == ("AbC9", (11, 266))
    assert [row.tobytes() for row in record.rgb] == rows
    assert record.audio.shape == (0, 128)


def test_frame_records_come_back_as_written(tmp_path: Path) -> None:
    segments = (Segment(10, 15, 266, 1.0), Segment(40, 45, 3, 0.0))
    plain = made_record(1, (3, 266), num_frames=4)
    rated = FrameRecord("wxyz", (1,), plain.rgb, plain.audio, segments)
    assert write_frame_records(tmp_path / "a.tfrecord", [plain, rated]) == 2
    for wrote, read in zip((plain, rated), read_frame_records(tmp_path / "a.tfrecord"), strict=True):
        assert (read.id, read.labels, read.segments) == (wrote.id, wrote.labels, wrote.segments)
        np.testing.assert_array_equal(read.rgb, wrote.rgb)
        np.testing.assert_array_equal(read.audio, wrote.audio)


def test_labels_are_read_from_both_levels(tmp_path: Path) -> None:
    write_frame_records(tmp_path / "f.tfrecord", [made_record(5, (1, 2))])
    write_video_records(tmp_path / "v.tfrecord", [LabelledId("AbCd", ())])
    assert [record.labels for record in read_labels(tmp_path / "f.tfrecord")] == [(1, 2)]
    assert [(record.id, record.labels) for record in read_labels(tmp_path / "v.tfrecord")] == [("AbCd", ())]


def test_dequantised_values_are_the_middles_of_the_steps() -> None:
    values = dequantise(np.arange(256, dtype=np.uint8))
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, [i * (4 / 255) + (4 / 512 - 2) for i in range(256)], atol=1e-6)


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (b"\xff\xff\xff", "is not YouTube-8M's: Error parsing"),
        (b"", "it has no 'id' .found: nothing."),
        (field(1, named("video_id", 1, field(1, b"AbCd"))), "it has no 'id' .found: video_id."),
        (field(1, named("id", 1, field(1, "ä".encode()))), "ascii"),
        (field(1, named("id", 1, field(1, b"AbCd"))), "video AbCd has no 'rgb' frames; is this a video-level file?"),
        (frames_by_hand(b"AbCd", b"\x01", [bytes(1024), bytes(1000)]), "second 1 of rgb has 1000 bytes, not 1024"),
    ],
    ids=["no protobuf", "empty", "set of 2017", "id is no ascii", "other level", "short row"],
)
def test_other_records_are_refused_by_name(tmp_path: Path, payload: bytes, problem: str) -> None:
    write_records(tmp_path / "a.tfrecord", [payload])
    with pytest.raises(RecordError, match=rf"a\.tfrecord: the record at byte 0 .*{problem}"):
        list(read_frame_records(tmp_path / "a.tfrecord"))


@pytest.mark.shared
@pytest.mark.skipif(not SAMPLE.is_file(), reason="no real YouTube-8M record beside the checkout")
def test_the_real_record_is_read_and_rewritten(tmp_path: Path) -> None:
    (record,) = read_frame_records(SAMPLE)
    assert (record.id, record.labels, record.segments) == ("SjJ3", (11,), ())
    assert (record.rgb.shape, record.audio.shape) == ((170, 1024), (170, 128))
    features = dequantise(record.rgb)
    assert abs(features.mean()) < 0.1  # whitened by PCA before it was quantised: zero mean, unit variance
    assert 0.9 < features.std() < 1.1
    write_frame_records(tmp_path / "a.tfrecord", [record])
    (again,) = read_frame_records(tmp_path / "a.tfrecord")
    np.testing.assert_array_equal(again.rgb, record.rgb)
    np.testing.assert_array_equal(again.audio, record.audio)
    assert (tmp_path / "a.tfrecord").stat().st_size == SAMPLE.stat().st_size
