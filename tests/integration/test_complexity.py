"""The time of reading a file is linear in all that a file may have many of: ratios of CPU time, no stopwatch."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.vcf_text import vcf_text
from vcfbert.errors import InputError
from vcfbert.genotypes.file_size import SizeLimits, count
from vcfbert.genotypes.parsing.trace import Trace, new_memory
from vcfbert.genotypes.region_reader import region_parts
from vcfbert.genotypes.regions import Region
from vcfbert.genotypes.vcf_reader import part_blocks

LIMITS = SizeLimits(mb=4000, samples=10**6, sites=10**6)
MAX_RATIO = 9.0  # of the time for four times as much: 4 if it is linear, 16 if it is quadratic
HEADER = vcf_text([], samples=["A"])


def record(chrom: str = "20", filter_: str = ".", info: str = ".", form: str = "GT") -> str:
    return f"{chrom}\t7\t.\tA\tC\t.\t{filter_}\t{info}\t{form}\t0|1\n"


def many(n: int, line: Callable[[int], str]) -> str:
    return "".join(line(number) for number in range(n))


def declared(lines: str) -> str:
    return HEADER.replace("##FORMAT", lines + "##FORMAT")


def chromosomes(n: int) -> str:
    return declared(many(n, "##contig=<ID=c{}>\n".format)) + many(n, lambda i: record(f"c{i}"))


def undeclared_chromosomes(n: int) -> str:
    return HEADER + many(n, lambda i: record(f"c{i}"))


def samples(n: int) -> str:
    return vcf_text([(7, "A", "C", " ".join(["0|1"] * n))], samples=[f"s{i}" for i in range(n)])


def header_lines(n: int) -> str:
    return declared(many(n, "##x{}=y\n".format)) + record()


def declared_keys(n: int) -> str:
    return declared(many(n, "##INFO=<ID=K{},Number=0,Type=Flag,Description=x>\n".format)) + record()


def keys_of_a_record(n: int) -> str:
    return HEADER + record(info=";".join(f"K{i}" for i in range(n)))


def keys_of_many_records(n: int) -> str:
    return HEADER + many(n, lambda i: record(info=f"K{i}", form=f"GT:K{i}"))


def filters(n: int) -> str:
    return HEADER + record(filter_=";".join(f"K{i}" for i in range(n)))


def alleles(n: int) -> str:
    binary = (f"A{i:b}".translate({ord("0"): "C", ord("1"): "G"}) for i in range(n))
    return HEADER + record().replace("\tC\t", f"\t{','.join(binary)}\t")


# What a file has many of, and how many.
CASES = {
    chromosomes: 1500,
    undeclared_chromosomes: 20_000,
    samples: 25_000,
    header_lines: 12_000,
    declared_keys: 12_000,
    keys_of_a_record: 20_000,
    keys_of_many_records: 20_000,
    filters: 20_000,
    alleles: 20_000,
}


def seconds(path: Path) -> float:
    """CPU time of what an upload's parser process does."""
    started = time.process_time()
    try:
        list(count(path, None, LIMITS))
        list(region_parts(path, Trace(new_memory()), [Region("20")], None, False))
        list(part_blocks(path, Trace(new_memory()), None, None, True))
    except InputError:
        pass
    return time.process_time() - started


@pytest.mark.parametrize(("text", "n"), CASES.items())
def test_time_of_reading_grows_linearly(tmp_path: Path, text: Callable[[int], str], n: int) -> None:
    small, large = tmp_path / "small.vcf", tmp_path / "large.vcf"
    small.write_text(text(n))
    large.write_text(text(4 * n))
    ratio = min(seconds(large) for _ in range(3)) / max(min(seconds(small) for _ in range(3)), 0.01)
    assert ratio < MAX_RATIO


def test_chromosomes_that_the_header_lacks_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vcfbert.genotypes.vcf_records.MAX_UNDECLARED", 3)
    path = tmp_path / "t.vcf"
    for n, codes in ((3, []), (4, ["too_many_undeclared"])):
        path.write_text(HEADER + many(n, lambda i: record(f"c{i}")))
        found = []
        try:
            list(part_blocks(path, Trace(new_memory()), None, None, False))
        except InputError as error:
            found.append(error.code)
        assert found == codes
