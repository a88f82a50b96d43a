from __future__ import annotations

import pytest

from vcfbert.errors import InputError
from vcfbert.genotypes.regions import Region
from vcfbert.genotypes.sex_chromosomes import BUILDS, between_pars, build_of, is_x, regions_of_x


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
