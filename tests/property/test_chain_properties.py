"""Lifting by random chains, compared with one position at a time, and undone by the chain in the other direction."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.chains import Block, chain_text, write_chain
from vcfbert.errors import InputError
from vcfbert.genotypes.chain import Blocks, read_chain
from vcfbert.genotypes.regions import Region


@st.composite
def chains(draw: st.DrawFn) -> list[Block]:
    """Blocks that overlap in neither build, in another order there, some on the reverse strand."""
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=12))
    gaps = draw(st.lists(st.integers(0, 4), min_size=len(sizes), max_size=len(sizes)))
    strands = draw(st.lists(st.sampled_from("+-"), min_size=len(sizes), max_size=len(sizes)))
    order = draw(st.permutations(range(len(sizes))))
    start = (np.cumsum(np.array(sizes) + gaps) - sizes).tolist()
    there, to = draw(st.integers(0, 5)), [0] * len(sizes)
    for number in order:
        to[number] = there
        there += sizes[number] + gaps[-1 - number]
    return [Block(*block) for block in zip(start, sizes, to, strands, strict=True)]


def read(blocks: list[Block]) -> Blocks:
    with tempfile.TemporaryDirectory() as folder:
        text = chain_text(blocks, bases=500, to_bases=400)
        found = read_chain(write_chain(Path(folder) / "a.chain", text)).blocks_of("chr20")
    assert found is not None
    return found


@settings(max_examples=150, deadline=None)
@given(chains())
def test_lift_equals_a_look_up_of_each_position(blocks: list[Block]) -> None:
    pos = np.arange(1, 260)
    lifted = read(blocks).lift(pos, np.ones(len(pos), dtype=np.int64))
    for here, there, block in zip(pos.tolist(), lifted.pos.tolist(), lifted.block.tolist(), strict=True):
        expected = [to for one in blocks if (to := one.lift(here)) is not None]
        assert expected == ([there] if block >= 0 else [])


@settings(max_examples=150, deadline=None)
@given(chains())
def test_lift_and_lift_back_is_the_identity(blocks: list[Block]) -> None:
    pos = np.arange(1, 260)
    ones = np.ones(len(pos), dtype=np.int64)
    there = read(blocks).lift(pos, ones)
    mapped = there.block >= 0
    turned = read([Block(*block.turned()) for block in blocks])
    back = turned.lift(there.pos[mapped], ones[mapped])
    assert (back.block >= 0).all()
    assert back.pos.tolist() == pos[mapped].tolist()


@settings(max_examples=100, deadline=None)
@given(chains())
def test_sources_are_all_positions_that_lift_to_the_given_ones(blocks: list[Block]) -> None:
    found = read(blocks)
    wanted = np.arange(1, 260, 3, dtype=np.int32)
    pos = np.arange(1, 260)
    lifted = found.lift(pos, np.ones(len(pos), dtype=np.int64))
    expected = pos[(lifted.block >= 0) & np.isin(lifted.pos, wanted)]
    assert found.sources(Region("20"), wanted).tolist() == expected.tolist()


@settings(max_examples=300, deadline=None)
@given(chains(), st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=3)), min_size=1, max_size=4))
def test_changed_chain_is_read_or_refused_as_invalid(blocks: list[Block], changes: list[tuple[int, bytes]]) -> None:
    text = chain_text(blocks, bases=500, to_bases=400).encode()
    for place, put in changes:
        at = place % len(text)
        text = text[:at] + put + text[at + 1 :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.chain"
        path.write_bytes(text)
        code, found = read_or_code(path)
    assert code in ("", "chain_invalid")
    pos = np.arange(1, 260)
    for one in found:
        lifted = one.lift(pos, np.ones(len(pos), dtype=np.int64))
        assert (lifted.pos[lifted.block >= 0] >= 1).all()


def read_or_code(path: Path) -> tuple[str, list[Blocks]]:
    try:
        return "", list(read_chain(path).chromosomes.values())
    except InputError as error:
        return error.code, []
