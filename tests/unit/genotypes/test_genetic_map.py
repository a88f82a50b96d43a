from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from vcfbert.errors import InputError
from vcfbert.genotypes.genetic_map import GeneticMap
from vcfbert.genotypes.sex_chromosomes import BUILDS, regions_of_x

# The same three points, 1,000 -> 1 cM, 2,000 -> 1.5 cM, 4,000 -> 3.5 cM, as each format has them.
FORMATS = {
    "glimpse": "pos\tchr\tcM\n1000\tchr20\t1\n2000\tchr20\t1.5\n4000\tchr20\t3.5\n",
    "glimpse_headerless": "1000 20 1\n2000 20 1.5\n4000 20 3.5\n",
    "shapeit2": "position COMBINED_rate(cM/Mb) Genetic_Map(cM)\n1000 500 1\n2000 1000 1.5\n4000 0 3.5\n",
    "plink": "20 . 1 1000\n20 rs2 1.5 2000\n20 rs3 3.5 4000\n21 rs4 0.1 10\n",
    "hapmap": "Chromosome\tPosition(bp)\tRate(cM/Mb)\tMap(cM)\n"
    "chr20\t1000\t500\t1\nchr20\t2000\t1000\t1.5\nchr20\t4000\t0\t3.5\n",
    "eagle": "chr position COMBINED_rate(cM/Mb) Genetic_Map(cM)\n20 1000 500 1\n20 2000 1000 1.5\n20 4000 0 3.5\n",
    "hapmap_headerless": "20 1000 500 1.0\n20 2000 1000 1.5\n20 4000 0 3.5\n",
}


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "map.txt"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_genetic_map_of_every_format_is_the_same(tmp_path: Path, name: str) -> None:
    found = GeneticMap.read(write(tmp_path, FORMATS[name]), "chr20")
    # Inside: linear. Beyond the ends: 1 cM/Mb.
    assert found.cm(np.array([500, 1000, 1500, 2000, 3000, 4000, 1_004_000])) == pytest.approx(
        [0.9995, 1.0, 1.25, 1.5, 2.5, 3.5, 4.5]
    )


def test_genetic_map_of_a_gzipped_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "map.gz"
    path.write_bytes(gzip.compress(FORMATS["plink"].encode()))
    assert GeneticMap.read(path, "20").source == "map.gz (PLINK)"


def test_uniform_genetic_map_is_proportional_to_position() -> None:
    assert GeneticMap.uniform().cm(np.array([1, 2_000_000])) == pytest.approx([1e-6, 2.0])
    assert GeneticMap.uniform(2.0).cm(np.array([1_000_000])) == pytest.approx([2.0])


def test_genetic_map_with_a_repeated_position_uses_it_once(tmp_path: Path) -> None:
    found = GeneticMap.read(write(tmp_path, "10 20 1\n10 20 1\n20 20 2\n"), "20")
    assert found.pos.tolist() == [10, 20]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("1000 20 1\n900 20 2\n", "map_backwards"),
        ("1000 20 2\n2000 20 1\n", "map_backwards"),
        ("1000 21 1\n2000 21 2\n", "map_chromosome"),
        ("", "map_invalid"),
        ("pos chr cM\n", "map_chromosome"),
        ("1000 20 1\n2000 20 x\n", "map_invalid"),
        ("1000 20 1\n2000 20 nan\n", "map_invalid"),
        ("1000 20 1\n2000\n", "map_invalid"),
        ("1000 2000\n", "map_invalid"),
        ("sample\tgroup\tsex\n", "map_invalid"),
        ("chr pos rate\n20 1000 1.2\n20 2000 1.2\n", "map_invalid"),
        ("pos chr cM/Mb\n1000 20 1.2\n2000 20 1.2\n", "map_invalid"),
        ("1000 20 0\n2000 20 0\n", "map_flat"),
        ("20 1000 5 1.2\n20 2000 5 1.2\n", "map_flat"),
    ],
)
def test_genetic_map_of_bad_rows_is_refused(tmp_path: Path, text: str, code: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        GeneticMap.read(path, "20")
    assert caught.value.code == code
    assert str(path) in str(caught.value)
    assert caught.value.hint


PARTS_OF_X = regions_of_x("X", BUILDS["b37"])
# Each part of X has its own map, from 0 cM on; 1, 2 and 3 cM/Mb.
MAPS_OF_X = [
    "".join(f"{start + step * 500_000} X {step * 0.5 * rate}\n" for step in range(4))
    for rate, start in ((1, 100_000), (2, 3_000_000), (3, 154_940_000))
]


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_map_of_a_part_of_x_is_the_one_that_covers_it(tmp_path: Path, joined: bool, reverse: bool) -> None:
    texts = ["".join(MAPS_OF_X)] if joined else MAPS_OF_X[:: -1 if reverse else 1]
    paths = [tmp_path / f"{number}.map" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    for rate, start, part in zip((1, 2, 3), (200_000, 3_200_000, 155_000_000), PARTS_OF_X, strict=True):
        found = GeneticMap.of_region(paths, part)
        first, second = found.cm(np.array([start, start + 100_000]))
        assert second - first == pytest.approx(0.1 * rate)
        assert found.covers(np.array([1, start, 200_000_000])).tolist() == [False, True, False]


def test_genetic_map_of_no_file_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        GeneticMap.read(tmp_path / "absent", "20")
    assert caught.value.code == "file_not_found"
    damaged = tmp_path / "map.gz"
    damaged.write_bytes(gzip.compress(FORMATS["plink"].encode())[:-9])
    with pytest.raises(InputError) as caught:
        GeneticMap.read(damaged, "20")
    assert caught.value.code == "map_invalid"
