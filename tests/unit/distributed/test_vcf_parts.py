from __future__ import annotations

import gzip
import io
from pathlib import Path

import pysam

from vcfbert.distributed.tensors import Tensors
from vcfbert.distributed.vcf_parts import Part, Stitched, write_part
from vcfbert.genotypes.vcf_lines import Line
from vcfbert.genotypes.vcf_writer import write_indexed

HEAD = b'##fileformat=VCFv4.3\n##contig=<ID=20>\n##INFO=<ID=X,Number=1,Type=String,Description="x">\n'
HEAD += b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


def lines(first: int, last: int) -> list[Line]:
    """Records of about 900 bytes, 1 kb apart: a BGZF block holds many, and blocks end within records."""
    made = []
    for number in range(first, last):
        pos = 1000 * (number + 1)
        long = b"ACGT" if number % 7 == 0 else b"A"
        text = b"20\t%d\t.\t%b\tG\t.\tPASS\tX=%b\n" % (pos, long, str(number).encode() * 300)
        made.append(Line(text, pos - 1, pos - 1 + len(long)))
    return made


def test_stitched_parts_equal_one_file_with_one_index(tmp_path: Path) -> None:
    bounds = [(0, 100), (100, 101), (101, 101), (101, 700)]  # the third part has no record
    parts = [Part(tmp_path / f"part-{number}.gz") for number in range(len(bounds))]
    for part, (first, last) in zip(parts, bounds, strict=True):
        write_part(part, "20", iter(lines(first, last)), meta={"n": last - first}, threads=1)
        assert Tensors(part.offsets_path).meta == {"n": last - first}
    stitched = Stitched(HEAD, [("20", parts)])
    whole = io.BytesIO()
    write_indexed(whole, HEAD, [("20", iter(lines(0, 700)))], 1)
    text = gzip.decompress(whole.getvalue())
    assert b"".join(stitched.text()) == text

    path = tmp_path / "out.vcf.gz"
    with path.open("wb") as handle:
        index = stitched.write_bgzf(handle)
    path.with_name("out.vcf.gz.tbi").write_bytes(index)
    assert gzip.decompress(path.read_bytes()) == text
    with pysam.VariantFile(str(path)) as file:
        for first, last in ((0, 700), (98, 102), (100, 101), (650, 700)):
            found = [record.pos for record in file.fetch("20", 1000 * (first + 1) - 1, 1000 * last)]
            assert found == [1000 * (number + 1) for number in range(first, last)]
