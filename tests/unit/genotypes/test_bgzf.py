from __future__ import annotations

import gzip
import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pysam
import pytest

from vcfbert.errors import InputError
from vcfbert.genotypes import bgzf


@pytest.mark.parametrize("size", [0, 1, bgzf.BLOCK_BYTES, bgzf.BLOCK_BYTES + 1, 5_000_000])
def test_bgzf_writer_with_any_piece_sizes_is_read_back_by_gzip(size: int) -> None:
    text = random.Random(1).randbytes(size)
    handle = io.BytesIO()
    with bgzf.BgzfWriter(handle, threads=2) as writer:
        for start in range(0, size, 70_001):
            writer.write(text[start : start + 70_001])
    assert gzip.decompress(handle.getvalue()) == text
    assert handle.getvalue().endswith(bgzf.EOF_BLOCK)


def test_block_of_incompressible_bytes_fits_in_64_kib() -> None:
    block = bgzf.compress_block(random.Random(2).randbytes(bgzf.BLOCK_BYTES))
    assert len(block) <= 1 << 16
    assert int.from_bytes(block[16:18], "little") == len(block) - 1


def test_bgzf_writer_after_an_error_writes_nothing() -> None:
    handle = io.BytesIO()

    def fail() -> None:
        with bgzf.BgzfWriter(handle, threads=2) as writer:
            writer.write(b"x" * 100)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert handle.getvalue() == b""


def test_virtual_offsets_of_records_lead_to_their_text(tmp_path: Path) -> None:
    text = b"".join(b"%07d\n" % i for i in range(100_000))
    path = tmp_path / "lines.gz"
    with path.open("wb") as handle, bgzf.BgzfWriter(handle, threads=2) as writer:
        writer.write(text)
    lines = [0, 1, 8159, 8160, 8161, 99_999]  # 8160 lines fill a block
    offsets = writer.virtual_offsets(8 * np.array(lines))
    with pysam.BGZFile(str(path)) as reader:
        for line, offset in zip(lines, offsets.tolist(), strict=True):
            reader.seek(offset)
            assert reader.read(8) == b"%07d\n" % line


def test_tabix_index_has_the_offsets_that_htslib_writes(tmp_path: Path) -> None:
    # Records that share windows of 16 kb, skip many, span several, and one that lies in the widest bin.
    starts = np.array([0, 10, 16_383, 16_384, 70_000, 70_000, 9_000_000, 67_108_863, 200_000_000])
    lengths = np.array([1, 1, 2, 1, 50_000, 1, 1, 2, 1])
    records = [b"20\t%d\t.\t%b\tC\t.\t.\t.\n" % (s + 1, b"A" * n) for s, n in zip(starts, lengths, strict=True)]
    head = b"##fileformat=VCFv4.3\n##contig=<ID=20>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    path = tmp_path / "records.vcf.gz"
    with path.open("wb") as handle, bgzf.BgzfWriter(handle) as writer:
        writer.write(head)
        for record in records:
            writer.write(record)
    offsets = writer.virtual_offsets(len(head) + np.cumsum([0, *map(len, records)]))
    own = bgzf.tabix_index([bgzf.RecordOffsets("20", starts, starts + lengths, offsets)])
    (tmp_path / "records.vcf.gz.tbi").write_bytes(own)

    def found(index: Path) -> dict[tuple[int, int], list[str]]:
        edges = sorted({0, *starts.tolist(), *(starts + lengths).tolist()})
        with pysam.TabixFile(str(path), index=str(index)) as file:
            return {(a, b): list(file.fetch("20", a, b)) for a in edges for b in edges if a < b}

    theirs = tmp_path / "theirs.tbi"
    pysam.tabix_index(str(path), preset="vcf", index=str(theirs), force=True)
    assert found(path.with_name("records.vcf.gz.tbi")) == found(theirs)
    by_scan = [r.decode().rstrip() for r, s in zip(records, starts, strict=True) if 16_384 <= s < 80_000]
    assert found(path.with_name("records.vcf.gz.tbi"))[(16_384, 120_000)] == [records[2].decode().rstrip(), *by_scan]


def test_csi_index_finds_the_records_that_htslib_finds(tmp_path: Path) -> None:
    # As above, and beyond the positions that tabix can hold.
    starts = np.array([0, 10, 16_383, 16_384, 70_000, 70_000, 9_000_000, 67_108_863, 600_000_000, 2_000_000_000])
    lengths = np.array([1, 1, 2, 1, 50_000, 1, 1, 2, 1, 1])
    text = (
        b"##fileformat=VCFv4.3\n##contig=<ID=20>\n##contig=<ID=21>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n\0"
    )
    head = b"BCF\2\2" + len(text).to_bytes(4, "little") + text
    records = []
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        alleles = b"\xf7\x13" + length.to_bytes(4, "little") + b"A" * length + b"\x17C"
        shared = struct.pack("<3iI2I", 0, start, length, 0x7F800001, 2 << 16, 0) + b"\x07" + alleles + b"\0"
        records.append(struct.pack("<2I", len(shared), 0) + shared)
    path = tmp_path / "records.bcf"
    with path.open("wb") as handle, bgzf.BgzfWriter(handle) as writer:
        writer.write(b"".join([head, *records]))
    offsets = writer.virtual_offsets(len(head) + np.cumsum([0, *map(len, records)]))
    none = np.empty(0, dtype=np.int64)
    without = bgzf.RecordOffsets("21", none, none, offsets[-1:])
    (tmp_path / "own.csi").write_bytes(
        bgzf.csi_index([bgzf.RecordOffsets("20", starts, starts + lengths, offsets), without])
    )
    pysam.tabix_index(str(path), preset="bcf", index=str(tmp_path / "theirs.csi"), force=True, csi=True)

    def found(index: str) -> dict[tuple[int, int], list[int]]:
        edges = sorted({0, *starts.tolist(), *(starts + lengths).tolist()})
        with pysam.VariantFile(str(path), index_filename=str(tmp_path / index)) as file:
            return {(a, b): [r.start for r in file.fetch("20", a, b)] for a in edges for b in edges if a < b}

    assert found("own.csi") == found("theirs.csi")
    assert found("own.csi")[(16_384, 120_000)] == [16_383, 16_384, 70_000, 70_000]


def with_size(block: bytes, size: int) -> bytes:
    return block[:16] + (size - 1).to_bytes(2, "little") + block[18:]


@pytest.mark.parametrize("size", [1, 17, 18, 26, "two blocks", 1 << 16])
def test_block_of_another_size_is_refused(size: int | str) -> None:
    """None of the following blocks is lost with it."""
    blocks = [bgzf.compress_block(text) for text in (b"first\n", b"second\n")]
    wrong = len(blocks[0]) + len(blocks[1]) if isinstance(size, str) else size
    handle = io.BytesIO(with_size(blocks[0], wrong) + blocks[1] + bgzf.EOF_BLOCK)
    with pytest.raises(InputError) as caught:
        list(bgzf.read_text(handle))
    assert caught.value.code in ("damaged_bgzf", "not_bgzf")


@pytest.mark.parametrize("cut", [5, 30])
def test_incomplete_last_block_is_skipped_in_a_part_and_refused_in_a_file(cut: int) -> None:
    data = bgzf.compress_block(b"first\n") + bgzf.compress_block(b"second\n")[:cut]
    assert list(bgzf.read_blocks(io.BytesIO(data))) == [b"first\n"]
    with pytest.raises(InputError, match="a block is damaged"):
        list(bgzf.read_text(io.BytesIO(data)))


def test_block_of_more_text_than_bgzf_allows_is_refused() -> None:
    text = bytes((1 << 16) + 1)
    body = gzip.compress(text, mtime=0)[10:-8]
    block = (
        bgzf._BLOCK_HEAD + struct.pack("<H", len(body) + 25) + body + struct.pack("<II", zlib.crc32(text), len(text))
    )
    with pytest.raises(InputError, match="a block is damaged"):
        list(bgzf.read_blocks(io.BytesIO(block)))
