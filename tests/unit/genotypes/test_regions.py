from __future__ import annotations

import pytest

from vcfbert.errors import InputError
from vcfbert.genotypes.regions import Region, canonical_chrom, names_of, same_chrom


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20", Region("20")),
        ("chr20:5", Region("chr20", 5, 5)),
        ("20:5-", Region("20", 5)),
        ("20:1,000-2,000", Region("20", 1000, 2000)),
    ],
)
def test_parse_of_each_notation_gives_the_region(text: str, expected: Region) -> None:
    assert Region.parse(text) == expected


@pytest.mark.parametrize("text", ["", "20:", "20:9-5", "20:-5", "20:0-5", "20:a-b", "20:,-5", "20 21"])
def test_parse_of_no_region_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        Region.parse(text)
    assert caught.value.code == "region_invalid"


def test_region_holds_its_own_bounds() -> None:
    region = Region("20", 5, 7)
    assert [region.holds(pos) for pos in (4, 5, 7, 8)] == [False, True, True, False]
    assert str(region) == "20:5-7"


def test_same_chrom_of_synonyms_is_true() -> None:
    assert same_chrom("chr20", "20")
    assert same_chrom("chrX", "x")
    assert same_chrom("23", "X")
    assert same_chrom("chrM", "MT")
    assert not same_chrom("2", "20")
    assert canonical_chrom("chrUn_KI270742v1") == "Un_KI270742v1"


def test_numbers_of_autosomes_of_other_species_are_different_chromosomes() -> None:
    assert not same_chrom("23", "25")
    assert not same_chrom("24", "Y")
    assert not same_chrom("chr26", "MT")


def test_names_of_prefers_the_name_to_the_number_of_plink() -> None:
    assert names_of("X", ["chr22", "chr23", "chrX"]) == ["chrX"]
    assert names_of("25", ["23", "25", "X"]) == ["25"]
    assert names_of("X", ["22", "23", "25"]) == ["23", "25"]
    assert names_of("23", ["22", "X"]) == ["X"]
    assert names_of("1", ["2"]) == []
