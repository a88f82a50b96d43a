"""Plain records (vcfbert/genotypes/plain_text.py) give the panel that htslib's parser gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vcfbert.errors import InputError
from vcfbert.genotypes import conversion, plain_text, vcf_reader
from vcfbert.genotypes.bgzf import EOF_BLOCK, compress, compress_block
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.plain_text import PACKED, plain_sites
from vcfbert.genotypes.vcf_file import inspect

SAMPLES = ("s0", "s1", "s2", "s3", "s4")
HEADER = (
    "##fileformat=VCFv4.2\n"
    + "".join(f"##contig=<ID={chrom}>\n" for chrom in ("1", "2", "X"))
    + '##FORMAT=<ID=GT,Number=1,Type=String,Description="">\n'
    + "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *SAMPLES])
    + "\n"
)
PLAIN = "0|0 0|1 1|0 1|1 0|0"


def line(pos: int, calls: str = PLAIN, *, chrom: str = "1", alt: str = "c", keys: str = "GT") -> str:
    return "\t".join([chrom, str(pos), f"rs{pos}", "a", alt, ".", ".", ".", keys, *calls.split()]) + "\n"


def random_lines(n: int) -> list[str]:
    rng = np.random.default_rng(17)
    return [line(10 * i, " ".join(f"{a}|{b}" for a, b in rng.integers(2, size=(5, 2)))) for i in range(1, n + 1)]


def written(folder: Path, lines: list[str], *, end: str = ".vcf.gz") -> Path:
    path, text = folder / f"panel{end}", (HEADER + "".join(lines)).encode()
    path.write_bytes(compress(text) if end == ".vcf.gz" else text)
    return path


def built(path: Path, out: Path) -> tuple[Panel, ...]:
    return conversion.build_panels([path], out, holdout=0.2, seed=1)


@pytest.mark.parametrize("end", [".vcf", ".vcf.gz"])
@pytest.mark.parametrize("bytes_at_once", [7, 1 << 22])
def test_plain_records_give_the_sites_and_alleles_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, bytes_at_once: int
) -> None:
    monkeypatch.setattr(plain_text, "_TEXT_BYTES", bytes_at_once)
    path = written(tmp_path, [line(5), line(7, "1|1 1|1 0|0 0|1 0|0"), line(7, alt="g")], end=end)
    blocks = list(plain_sites(inspect(path)))
    packed = np.concatenate([block.calls for block in blocks])
    alleles = np.unpackbits(packed, axis=1, count=10).tolist()
    one = [0, 0, 0, 1, 1, 0, 1, 1, 0, 0]
    assert alleles == [one, [1, 1, 1, 1, 0, 0, 0, 1, 0, 0], one]
    assert [pos for block in blocks for pos in block.sites.pos.tolist()] == [5, 7, 7]
    assert [alt for block in blocks for alt in block.sites.alt.tolist()] == ["C", "C", "G"]


@pytest.mark.parametrize(
    "other",
    [
        line(301, alt="c,g"),
        line(301, alt="<DEL>"),
        line(301, "0|0 0|1 1|0 2|1 0|0", alt="c,g"),
        line(301, "0/0 0|1 1|0 1|1 0|0"),
        line(301, "0|0:1 0|1:1 1|0:1 1|1:1 0|0:1", keys="GT:DS"),
        line(301).replace("\n", "\r\n"),
        line(301) + line(302).removesuffix("\n"),
        line(301).replace("\t.\tGT", f"\t{200 * 'x'}\tGT"),
        line(301).replace("\t.\t.\t.\t", "\t1e3\t.\t.\t"),
        line(5, chrom="2") + line(3, chrom="X") + line(2_800_000, chrom="X"),
    ],
    ids=[
        "two ALT",
        "symbolic ALT",
        "allele 2",
        "unphased homozygote",
        "other keys",
        "carriage return",
        "no newline at the end",
        "long INFO",
        "exponent",
        "chromosome X",
    ],
)
def test_panel_with_other_records_is_that_of_htslib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    monkeypatch.setattr(plain_text, "_MAX_COLUMNS", 100)
    after = [line(400)] if other.endswith("\n") and "X" not in other else []
    path = written(tmp_path, [*random_lines(30), other, *after])
    options = {"holdout": 0.2, "seed": 1, "build": "b38"}
    ours = conversion.build_panels([path], tmp_path / "ours", **options)
    with monkeypatch.context() as patch:
        patch.setattr(plain_text, "PACKED", PACKED._replace(kernel=lambda *_: 0))
        theirs = conversion.build_panels([path], tmp_path / "theirs", **options)
    assert [panel.digest for panel in ours] == [panel.digest for panel in theirs]
    assert ours[0].n_sites >= 30


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([line(5), line(4)], "unsorted_records"),
        ([line(5), line(5)], "duplicate_records"),
        ([line(5), line(6, chrom="2"), line(7)], "unsorted_records"),
        ([line(5), line(6, "0/1 0|0 0|0 0|0 0|0")], "panel_unphased"),
        ([line(5), line(6, ".|1 0|0 0|0 0|0 0|0")], "panel_missing"),
        ([line(5), line(6, "0|1 0|1")], "vcf_invalid"),
        ([line(5), line(6, "0|0 0 0|0 0|0 0|0"), line(7)], "mixed_ploidy"),
        ([], "empty"),
    ],
)
def test_faulty_record_after_plain_ones_is_refused(tmp_path: Path, lines: list[str], code: str) -> None:
    path = written(tmp_path, lines)
    with pytest.raises(InputError) as error:
        built(path, tmp_path / "out")
    assert error.value.code == code


def test_damaged_block_after_plain_records_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, random_lines(3000))
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) * 2 // 3] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(InputError) as error:
        built(path, tmp_path / "out")
    assert error.value.code == "vcf_invalid"


def test_line_of_a_header_after_its_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        built(written(tmp_path, ["##source=x\n", line(5)]), tmp_path / "out")
    assert error.value.code == "vcf_invalid"


def test_block_that_hides_the_next_is_refused(tmp_path: Path) -> None:
    """Its size spans two blocks, each of whole lines, as bgzip writes them. Records must not vanish."""
    first, second = (compress_block(text.encode()) for text in (HEADER + line(5), line(6)))
    size = (len(first) + len(second) - 1).to_bytes(2, "little")
    path = tmp_path / "panel.vcf.gz"
    path.write_bytes(first[:16] + size + first[18:] + second + EOF_BLOCK)
    with pytest.raises(InputError) as error:
        built(path, tmp_path / "out")
    assert error.value.code == "vcf_invalid"


def test_progress_counts_each_site_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vcf_reader, "BLOCK_RECORDS", 8)  # htslib begins anew behind the plain records
    counts: list[int] = []
    path = written(tmp_path, [*random_lines(30), line(301, alt="c,g"), line(400)])
    conversion.convert_panels([path], tmp_path / "out", holdout=0.2, seed=1, progress=counts.append)
    assert counts == sorted(set(counts))
    assert counts[-1] == 33
