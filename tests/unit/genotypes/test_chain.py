"""Chain files: their blocks, lifted positions, and files that are no chains."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.chains import Block, chain_text, write_chain
from vcfbert.errors import InputError
from vcfbert.genotypes.chain import NO_BLOCK, SEVERAL_BLOCKS, SPLIT, Blocks, Lifted, read_chain
from vcfbert.genotypes.regions import Region

# A chain with gaps on both sides, a block on the reverse strand, and one that leads elsewhere.
WRITTEN = """# a comment
chain 4900 chr20 1000 + 100 200 chr20 1100 + 150 255 1
30 10 0
40\t0\t15
20

chain 900 chr20 1000 + 300 350 chr20 1100 - 500 550 2
50

chain 800 chr20 1000 + 400 420 chr7 900 + 10 30
20
"""


def blocks_in(tmp_path: Path, text: str, name: str = "a.chain") -> Blocks:
    blocks = read_chain(write_chain(tmp_path / name, text)).blocks_of("20")
    assert blocks is not None
    return blocks


def lift(blocks: Blocks, *pos: int, length: int = 1) -> Lifted:
    return blocks.lift(np.array(pos), np.full(len(pos), length))


@pytest.mark.parametrize("name", ["a.chain", "a.chain.gz"])
def test_lift_of_written_chain_is_as_computed_by_hand(tmp_path: Path, name: str) -> None:
    blocks = blocks_in(tmp_path, WRITTEN, name)
    lifted = lift(blocks, 101, 130, 131, 140, 141, 180, 181, 200, 201)
    assert lifted.block.tolist() == [0, 0, NO_BLOCK, NO_BLOCK, 1, 1, 2, 2, NO_BLOCK]
    assert lifted.pos[lifted.block >= 0].tolist() == [151, 180, 181, 220, 236, 255]
    # The reverse strand's base 500 (0-based) is base 1100 - 500 of the forward strand, 1-based.
    turned = lift(blocks, 301, 350)
    assert turned.pos.tolist() == [600, 551]
    assert blocks.reverse[turned.block].all()
    assert blocks.to_chrom[lift(blocks, 401).block].tolist() == ["chr7"]


def test_interval_across_a_border_is_split(tmp_path: Path) -> None:
    blocks = blocks_in(tmp_path, WRITTEN)
    assert lift(blocks, 127, 128, length=4).block.tolist() == [0, SPLIT]
    assert lift(blocks, 178, length=4).block.tolist() == [SPLIT]  # both ends are in blocks


def test_position_of_two_blocks_is_lifted_to_neither(tmp_path: Path) -> None:
    blocks = blocks_in(tmp_path, chain_text([Block(100, 50, 100), Block(140, 50, 340)]))
    lifted = lift(blocks, 140, 141, 150, 151)
    assert lifted.block.tolist() == [0, SEVERAL_BLOCKS, SEVERAL_BLOCKS, 1]
    assert lifted.pos[[0, 3]].tolist() == [140, 351]
    assert lift(blocks, 138, length=5).block.tolist() == [SPLIT]


def test_sources_are_the_positions_that_lift_to_them(tmp_path: Path) -> None:
    blocks = blocks_in(tmp_path, WRITTEN)
    wanted = np.array([151, 180, 200, 225, 551, 600, 601], dtype=np.int32)
    assert blocks.sources(Region("20"), wanted).tolist() == [101, 130, 160, 301, 350]
    assert blocks.sources(Region("7"), np.array([11, 12], dtype=np.int32)).tolist() == [401, 402]


def test_source_region_is_whole_for_a_whole_chromosome(tmp_path: Path) -> None:
    blocks = blocks_in(tmp_path, WRITTEN)
    assert blocks.source_region(Region("20")) == Region("20")
    assert blocks.source_region(Region("20", 1, 170)) == Region("20", 1, 120)
    assert blocks.source_region(Region("20", 171, 250)) == Region("20", 121, 195)
    assert blocks.source_region(Region("20", 171)) == Region("20", 121)


@pytest.mark.parametrize("asked", ["20", "chr20"])
@pytest.mark.parametrize("written", ["20", "chr20"])
def test_chromosome_is_found_with_and_without_chr(tmp_path: Path, asked: str, written: str) -> None:
    chain = read_chain(write_chain(tmp_path / "a.chain", chain_text([Block(0, 9, 5)], chrom=written)))
    found = chain.blocks_of(asked)
    assert found is not None
    assert found.start.tolist() == [0]
    assert chain.blocks_of("21") is None


HEAD = "chain 1 chr20 1000 + 0 50 chr20 1000 + 0 50 1\n"
BROKEN = {
    "a VCF": ("##fileformat=VCFv4.2\n#CHROM\tPOS\n20\t5\n", "line 3"),
    "nothing": ("", "no chain"),
    "comments alone": ("# nothing\n", "no chain"),
    "too few fields": ("chain 1 chr20 1000 + 0 50 chr20 1000 + 0\n50\n", "line 1"),
    "strand of the first build": (HEAD.replace("+", "-", 1) + "50\n", "strands"),
    "unknown strand": (HEAD.replace("1000 + 0 50 1", "1000 x 0 50 1") + "50\n", "strands"),
    "negative size": (HEAD + "-50\n", "line 2"),
    "text": (HEAD + "fifty\n", "line 2"),
    "huge": (HEAD + "99999999999999999999\n", "line 2"),
    "two numbers": (HEAD + "20 10\n20\n", "line 2"),
    "cut short": (HEAD + "20 10 10\n", "line 3"),
    "shorter than said": (HEAD + "20\n", "shorter"),
    "longer than said": (HEAD + "20 10 10\n50\n", "longer"),
    "end behind the chromosome": (HEAD.replace("0 50 chr20", "980 1030 chr20") + "50\n", "within"),
    "no bases": (HEAD.replace("0 50", "0 0") + "0\n", "within"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_chain_is_refused_with_its_line(tmp_path: Path, case: str) -> None:
    text, told = BROKEN[case]
    with pytest.raises(InputError) as caught:
        read_chain(write_chain(tmp_path / "a.chain", text))
    assert caught.value.code == "chain_invalid"
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"\x89PNG\xff\xfe", gzip.compress(WRITTEN.encode())[:40], b"\x1f\x8b\x08damaged"],
    ids=["binary", "cut gzip", "damaged gzip"],
)
def test_damaged_or_binary_chain_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.chain.gz"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_chain(path)
    assert caught.value.code == "chain_invalid"


def test_missing_chain_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_chain(tmp_path / "none.chain")
    assert caught.value.code == "file_not_found"
    assert "none.chain" in str(caught.value)


def test_million_positions_take_under_two_cpu_seconds(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    starts = np.arange(20_000) * 3000
    blocks = blocks_in(tmp_path, chain_text([Block(int(start), 2900, int(start) + 50) for start in starts]))
    pos = np.sort(rng.integers(1, 60_000_000, 1_000_000))
    begin = time.process_time()
    lifted = blocks.lift(pos, np.ones(len(pos), dtype=np.int64))
    blocks.sources(Region("20"), np.unique(pos).astype(np.int32))
    assert time.process_time() - begin < 2.0
    assert 0.95 < (lifted.block >= 0).mean() < 0.98
