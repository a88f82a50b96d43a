from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import pysam

from vcfbert.distributed.tensors import Tensors
from vcfbert.distributed.vcf_parts import Part, Stitched, write_part
from vcfbert.genotypes.bgzf import tabix_index
from vcfbert.genotypes.record_formatter import RecordBytes
from vcfbert.genotypes.vcf_writer import write_records

HEAD = b'##fileformat=VCFv4.3\n##contig=<ID=20>\n##INFO=<ID=X,Number=1,Type=String,Description="x">\n'
HEAD += b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


def records(first: int, last: int) -> RecordBytes:
    """Records of about 900 bytes, 1 kb apart: a BGZF block holds many, and blocks end within records."""
    pos = 1000 * np.arange(first + 1, last + 1)
    refs = [b"ACGT" if number % 7 == 0 else b"A" for number in range(first, last)]
    lines = [
        b"20\t%d\t.\t%b\tG\t.\tPASS\tX=%b\n" % (at, ref, str(number).encode() * 300)
        for at, ref, number in zip(pos.tolist(), refs, range(first, last), strict=True)
    ]
    lengths = np.array([len(ref) for ref in refs], dtype=np.int64)
    return RecordBytes(b"".join(lines), pos - 1, pos - 1 + lengths, np.cumsum([len(line) for line in lines], dtype=int))


def test_stitched_parts_equal_one_file_with_one_index(tmp_path: Path) -> None:
    bounds = [(0, 100), (100, 101), (101, 101), (101, 700)]  # the third part has no record
    parts = [Part(tmp_path / f"part-{number}.gz") for number in range(len(bounds))]
    for part, (first, last) in zip(parts, bounds, strict=True):
        write_part(part, "20", iter([records(first, last)]), meta={"n": last - first}, threads=1)
        assert Tensors(part.offsets_path).meta == {"n": last - first}
    stitched = Stitched(HEAD, [("20", parts)])
    whole = io.BytesIO()
    write_records(whole, HEAD, [("20", iter([records(0, 700)]))], 1)
    text = gzip.decompress(whole.getvalue())
    assert b"".join(stitched.pieces()) == text

    path = tmp_path / "out.vcf.gz"
    with path.open("wb") as handle:
        offsets = stitched.write_bgzf(handle)
    path.with_name("out.vcf.gz.tbi").write_bytes(tabix_index(offsets))
    assert gzip.decompress(path.read_bytes()) == text
    with pysam.VariantFile(str(path)) as file:
        for first, last in ((0, 700), (98, 102), (100, 101), (650, 700)):
            found = [record.pos for record in file.fetch("20", 1000 * (first + 1) - 1, 1000 * last)]
            assert found == [1000 * (number + 1) for number in range(first, last)]
