from __future__ import annotations

import pytest

from vcfbert.errors import InputError
from vcfbert.genotypes.regions import Region
from vcfbert.genotypes.sex_chromosomes import (
    BUILDS,
    between_pars,
    build_of,
    has_chrom,
    is_autosome_number,
    is_x,
    regions_of_x,
)


@pytest.mark.parametrize(("name", "par1", "par2"), [("b37", 2_699_520, 154_931_044), ("b38", 2_781_479, 155_701_383)])
def test_regions_of_x_cover_x_once_and_meet_at_the_borders_of_the_pars(name: str, par1: int, par2: int) -> None:
    first, middle, last = regions_of_x("chrX", BUILDS[name])
    assert (first, last) == (Region("chrX", 1, par1), Region("chrX", par2, None))
    assert (middle.start, middle.stop) == (par1 + 1, par2 - 1)
    assert [between_pars(stretch) for stretch in (first, middle, last)] == [False, True, False]
    assert not between_pars(Region("20", middle.start, middle.stop))
    assert not between_pars(Region("X"))


def test_build_of_a_name_or_of_the_length_of_x_is_found() -> None:
    assert build_of(155_270_560, None, "f").name == "b37"
    assert build_of(156_040_895, None, "f").name == "b38"
    assert build_of(156_040_895, "b37", "f").name == "b37"
    for length, named in ((None, None), (1, None), (155_270_560, "hg19")):
        with pytest.raises(InputError, match="b37 or b38") as caught:
            build_of(length, named, "f")
        assert caught.value.code == "build_unknown"


def test_is_x_of_every_name_of_x_is_true() -> None:
    assert all(map(is_x, ("X", "chrX", "23")))
    assert not any(map(is_x, ("Y", "20", "XY_random")))


@pytest.mark.parametrize(
    ("chrom", "length", "named", "expected"),
    [
        ("23", 52_000_000, None, True),
        ("chr25", 42_000_000, None, True),
        ("23", 155_270_560, None, False),
        ("23", None, None, False),
        ("23", 52_000_000, "b38", False),
        ("X", 139_000_000, None, False),
    ],
)
def test_number_of_x_is_autosome_by_its_length(
    chrom: str, length: int | None, named: str | None, expected: bool
) -> None:
    assert is_autosome_number(chrom, length, named) == expected


def test_only_parts_of_human_x_have_the_numbers_of_plink() -> None:
    part = regions_of_x("chrX", BUILDS["b38"])[1]
    assert [has_chrom(part, name) for name in ("X", "23", "25", "22")] == [True, True, True, False]
    assert [has_chrom(Region("23"), name) for name in ("chr23", "X", "25")] == [True, False, False]
    assert [has_chrom(Region("X"), name) for name in ("X", "23")] == [True, False]
