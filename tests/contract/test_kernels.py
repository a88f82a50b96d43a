"""The contract of kernels (vcfbert/kernels): every compiled twin computes what its numpy function says.

Each kernel has a function here that makes its arguments from a random generator. Both run on copies of the same
arguments, and all arrays are compared afterwards: floats up to rounding, all others exactly.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from tests.helpers.haploid_kernels import HAPLOID_CASES
from tests.helpers.interval_kernels import INTERVAL_CASES
from tests.helpers.kernel_cases import Arguments, KernelCase, kernels
from tests.helpers.network_kernels import NETWORK_CASES
from tests.helpers.pair_kernels import PAIR_CASES
from tests.helpers.record_kernels import RECORD_CASES
from tests.helpers.state_kernels import STATE_CASES
from vcfbert.genotypes import imputed, plain_text, record_names, site_blocks
from vcfbert.kernels import Kernel


def moments(rng: np.random.Generator) -> tuple[Any, ...]:
    return rng.random((5, 13), dtype=np.float32), np.empty(5), np.empty(5)


def moments_of_empty_rows(rng: np.random.Generator) -> tuple[Any, ...]:
    return np.empty((2, 0), np.float32), np.empty(2), np.empty(2)


def number_rows(rng: np.random.Generator) -> tuple[Any, ...]:
    h = int(rng.integers(1, 40))
    alleles = rng.random((int(rng.integers(1, 65)), h)) < 0.02
    return np.packbits(alleles, axis=1), np.zeros(h, np.uint16), np.zeros(h, np.uint64)


def number_rows_without_room(rng: np.random.Generator) -> tuple[Any, ...]:
    packed = np.packbits(np.eye(10, dtype=np.uint8), axis=1)
    return packed, np.zeros(10, np.uint16), np.zeros(0, np.uint64)


def stored_blocks(rng: np.random.Generator) -> site_blocks.SiteBlocks:
    return site_blocks.SiteBlocks.of_alleles((rng.random((30, 150)) < 0.05).astype(np.uint8))


def unpack(rng: np.random.Generator) -> tuple[Any, ...]:
    blocks = stored_blocks(rng)
    site = np.concatenate([np.arange(10, 140), rng.integers(150, size=20)])
    block = np.searchsorted(blocks.first_site, site, side="right") - 1
    place, haplotypes = site - blocks.first_site[block], rng.integers(30, size=12)
    return blocks.first_row, blocks.rows, blocks.number, block, place, haplotypes, np.empty((12, 150), np.uint8)


def pack(rng: np.random.Generator) -> tuple[Any, ...]:
    blocks = stored_blocks(rng)
    start = int(rng.integers(150))
    out = np.empty((int(rng.integers(151 - start)), 4), np.uint8)
    return blocks.first_site, blocks.first_row, blocks.rows, blocks.number, start, out


def gather_bits(rng: np.random.Generator) -> tuple[Any, ...]:
    blocks = stored_blocks(rng)
    site = np.flatnonzero(rng.random(150) < 0.6)
    block = np.searchsorted(blocks.first_site, site, side="right") - 1
    place, haplotypes = site - blocks.first_site[block], rng.integers(30, size=12)
    out = np.zeros((12, -(-len(site) // 64)), np.uint64)
    return blocks.first_row, blocks.rows, blocks.number, block, place, haplotypes, out


def count_alleles(rng: np.random.Generator) -> tuple[Any, ...]:
    blocks = stored_blocks(rng)
    counts = np.empty(150, np.int64)
    return blocks.first_site, blocks.first_row, blocks.rows, blocks.number, rng.integers(30, size=12), counts


def pack_phased_text(rng: np.random.Generator) -> tuple[Any, ...]:
    n = int(rng.integers(1, 12))
    lines = [plain_line(rng, n) for _ in range(6)]
    start = len(lines[0])
    text = np.frombuffer("".join(lines).encode(), np.uint8)
    return text, start, n, np.ones((5, 10), np.int64), np.ones((5, -(-n // 4)), np.uint8)


def pack_text_that_is_not_plain(rng: np.random.Generator) -> tuple[Any, ...]:
    n = int(rng.integers(1, 12))
    text = bytearray("".join(plain_line(rng, n) for _ in range(3)).encode())
    text[rng.integers(len(text))] = rng.choice(list(b"\t\n\r 012|/.#,:<\xff"))
    return np.frombuffer(text, np.uint8), 0, n, np.ones((4, 10), np.int64), np.ones((4, -(-n // 4)), np.uint8)


def number_call_text(rng: np.random.Generator) -> tuple[Any, ...]:
    n = int(rng.integers(1, 12))
    text = np.frombuffer("".join(plain_line(rng, n, "01.", "|/") for _ in range(6)).encode(), np.uint8)
    return text, 0, n, np.ones((5, 10), np.int64), np.ones((5, n, 3), np.int16)


def number_text_that_is_not_plain(rng: np.random.Generator) -> tuple[Any, ...]:
    n = int(rng.integers(1, 12))
    text = bytearray("".join(plain_line(rng, n, "01.", "|/") for _ in range(3)).encode())
    text[rng.integers(len(text))] = rng.choice(list(b"\t\n\r 012|/.#,:<\xff"))
    return np.frombuffer(text, np.uint8), 0, n, np.ones((4, 10), np.int64), np.ones((4, n, 3), np.int16)


def plain_line(rng: np.random.Generator, n: int, alleles: str = "01", between: str = "|") -> str:
    calls = "\t".join(rng.choice(list(between)).join(rng.choice(list(alleles), 2)) for _ in range(n))
    return f"chr1\t{rng.integers(1, 10**9)}\trs1\tA\tCTg\t3.5\tPASS\tAC=3\tGT\t{calls}\n"


def undeclared(rng: np.random.Generator) -> tuple[Any, ...]:
    text = np.frombuffer(bytes(rng.choice(list(b"abPASS.=;:\t\t\t\n"), size=2000)), np.uint8)
    table = np.zeros(4096, np.uint64)
    return text, int(rng.integers(50)), len(text), table, int(rng.integers(60)), np.zeros(1, np.int64)


CASES: list[KernelCase] = [
    (imputed.moments, moments),
    (imputed.moments, moments_of_empty_rows),
    (site_blocks.number_rows, number_rows),
    (site_blocks.number_rows, number_rows_without_room),
    (site_blocks.unpack, unpack),
    (site_blocks.pack, pack),
    (site_blocks.gather_bits, gather_bits),
    (site_blocks.count_alleles, count_alleles),
    (plain_text.pack_phased_text, pack_phased_text),
    (plain_text.pack_phased_text, pack_text_that_is_not_plain),
    (plain_text.number_call_text, number_call_text),
    (plain_text.number_call_text, number_text_that_is_not_plain),
    (record_names.undeclared, undeclared),
    *HAPLOID_CASES,
    *PAIR_CASES,
    *RECORD_CASES,
    *STATE_CASES,
    *INTERVAL_CASES,
    *NETWORK_CASES,
]


def arrays_of(arguments: tuple[Any, ...]) -> list[np.ndarray]:
    """All arrays of the arguments, those of NamedTuples included."""
    found = []
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            found.append(argument)
        elif isinstance(argument, tuple):
            found += arrays_of(argument)
    return found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("kernel", "made"), CASES, ids=[made.__name__ for _, made in CASES])
def test_twin_computes_what_numpy_says(kernel: Kernel[..., Any], made: Arguments, seed: int) -> None:
    given = made(np.random.default_rng(seed))
    expected = copy.deepcopy(given)
    returned, said = kernel(*given), kernel.plain(*expected)
    assert returned == pytest.approx(said, rel=1e-5) if said is not None else returned is None
    for ours, theirs in zip(arrays_of(given), arrays_of(expected), strict=True):
        if np.issubdtype(ours.dtype, np.floating):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
        else:
            np.testing.assert_array_equal(ours, theirs)


def test_every_kernel_is_compared() -> None:
    assert kernels().keys() == {kernel.name for kernel, _ in CASES}
