import gzip
import struct
from pathlib import Path

import pytest

from reelkind.datasets.yt8m.errors import RecordError
from reelkind.datasets.yt8m.tfrecord import MAX_RECORD_BYTES, read_records, write_records

PAYLOADS = [b"", b"a", b"longer than a header" * 10]


def masked_crc(data: bytes) -> int:
    """CRC-32C bit by bit (RFC 3720, B.4), masked as TensorFlow does: an oracle that shares no code."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def framed(payload: bytes) -> bytes:
    length = struct.pack("<Q", len(payload))
    return length + struct.pack("<I", masked_crc(length)) + payload + struct.pack("<I", masked_crc(payload))


def payloads_of(path: Path) -> list[bytes]:
    return [record.payload for record in read_records(path)]


def test_the_writer_writes_what_the_format_says(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    assert write_records(path, PAYLOADS) == 3
    assert path.read_bytes() == b"".join(framed(payload) for payload in PAYLOADS)


@pytest.mark.parametrize("name", ["a.tfrecord", "a.tfrecord.gz", "ünïcode 動画.tfrecord"])
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    write_records(tmp_path / name, PAYLOADS)
    assert payloads_of(tmp_path / name) == PAYLOADS


def test_offsets_are_where_records_start(tmp_path: Path) -> None:
    write_records(tmp_path / "a.tfrecord", PAYLOADS)
    offsets = [record.offset for record in read_records(tmp_path / "a.tfrecord")]
    assert offsets == [0, 16, 33]


def test_gzip_is_recognised_without_its_suffix(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    path.write_bytes(gzip.compress(framed(b"inside")))
    assert payloads_of(path) == [b"inside"]


def test_a_length_that_begins_like_gzip_is_no_gzip(tmp_path: Path) -> None:
    payload = bytes(0x088B1F)  # little-endian: 1f 8b 08
    write_records(tmp_path / "a.tfrecord", [payload])
    assert payloads_of(tmp_path / "a.tfrecord") == [payload]


def test_every_flipped_byte_is_noticed_and_placed(tmp_path: Path) -> None:
    good, path = framed(b"first") + framed(b"second"), tmp_path / "a.tfrecord"
    for position in range(len(good)):
        path.write_bytes(good[:position] + bytes([good[position] ^ 0x40]) + good[position + 1 :])
        offset = 0 if position < 21 else 21
        with pytest.raises(RecordError, match=rf"a\.tfrecord: .*byte {offset} .*fetch the file again"):
            payloads_of(path)


def test_every_cut_inside_a_record_is_noticed(tmp_path: Path) -> None:
    good, path = framed(b"first") + framed(b"second"), tmp_path / "a.tfrecord"
    for length in range(len(good) + 1):
        path.write_bytes(good[:length])
        if length in (0, 21, len(good)):
            assert len(payloads_of(path)) == (0, 1, 2)[(0, 21, len(good)).index(length)]
            continue
        with pytest.raises(RecordError, match=r"a\.tfrecord: ends inside the record at byte (0|21)"):
            payloads_of(path)


def test_damaged_gzip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord.gz"
    write_records(path, [bytes(range(256)) * 40])
    good = path.read_bytes()
    for bad in (good[:-20], good[:-8] + bytes(8)):  # cut, and with another checksum of its own
        path.write_bytes(bad)
        with pytest.raises(RecordError, match=r"damaged gzip stream"):
            payloads_of(path)
    path.write_bytes(good[:30] + b"\xff" * 8 + good[38:])
    with pytest.raises(RecordError, match=r"fetch the file again"):
        payloads_of(path)


def test_an_absurd_length_is_not_believed(tmp_path: Path) -> None:
    length = struct.pack("<Q", MAX_RECORD_BYTES + 1)
    (tmp_path / "a.tfrecord").write_bytes(length + struct.pack("<I", masked_crc(length)))
    with pytest.raises(RecordError, match=r"no TFRecord at byte 0"):
        payloads_of(tmp_path / "a.tfrecord")


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"missing.tfrecord: cannot be read: No such file"):
        payloads_of(tmp_path / "missing.tfrecord")
    with pytest.raises(RecordError, match=r"cannot be read: Is a directory"):
        payloads_of(tmp_path)
