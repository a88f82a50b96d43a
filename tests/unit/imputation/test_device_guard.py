"""How long an imputer holds its device guard."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.tiny import perturbed_bundle, random_panel, target_of, tiny_config
from tests.helpers.vcf_text import vcf_text, write_vcf
from vcfbert.bundle.contents import Bundle
from vcfbert.errors import InputError
from vcfbert.genotypes.imputed import ImputedBlock
from vcfbert.genotypes.sites import MatchedTarget
from vcfbert.imputation.files import impute_file
from vcfbert.imputation.imputer import Imputer

PANEL = random_panel(20, 200, seed=1)
TARGET = target_of(PANEL, [1, 2, 3], np.arange(1, 200, 5))
N_CELLS = 3 * 200


class Guard:
    """A lock that tells whether it is held, and how often it was entered."""

    def __init__(self) -> None:
        self.held = False
        self.entered = 0

    def __enter__(self) -> None:
        assert not self.held
        self.held = True
        self.entered += 1

    def __exit__(self, *error: object) -> None:
        self.held = False


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    sections = {"encode": {"copy_window": 64, "copy_span_cm": 0.3}, "retrieval": {"k": {"v17": 2, "v18": 8, "v19": 8}}}
    config = tiny_config(sections)
    return perturbed_bundle(tmp_path_factory.mktemp("guard") / "v19", [PANEL], "v19", config)


def guarded(bundle: Bundle, max_held: int) -> tuple[Imputer, Guard]:
    guard = Guard()
    return Imputer(bundle, device_guard=guard, max_held_cells=max_held), guard


def starts(blocks: Iterator[ImputedBlock]) -> list[int]:
    return [block.start for block in blocks]


def test_guard_is_not_entered_before_the_first_block_is_asked_for(bundle: Bundle) -> None:
    imputer, guard = guarded(bundle, N_CELLS)
    imputer.impute(TARGET).close()
    assert guard.entered == 0


def test_small_result_is_computed_whole_and_yielded_after_the_guard_is_left(bundle: Bundle) -> None:
    imputer, guard = guarded(bundle, N_CELLS)
    done: list[int] = []
    blocks = imputer.impute(TARGET, progress=done.append)
    first = next(blocks)
    assert (sum(done), guard.held, guard.entered) == (200, False, 1)
    assert [first.start, *starts(blocks)] == starts(Imputer(bundle).impute(TARGET))
    assert guard.entered == 1


def test_large_result_is_yielded_block_by_block_inside_the_guard(bundle: Bundle) -> None:
    imputer, guard = guarded(bundle, N_CELLS - 1)
    done: list[int] = []
    blocks = imputer.impute(TARGET, progress=done.append)
    next(blocks)
    assert (done, guard.held) == ([], True)
    assert len(starts(blocks)) > 1
    assert (sum(done), guard.held, guard.entered) == (200, False, 1)


def test_interval_alone_counts_as_size_of_the_result(bundle: Bundle) -> None:
    imputer, guard = guarded(bundle, 3 * 50)
    next(imputer.impute(TARGET, sites=(20, 70)))
    assert not guard.held


def test_result_without_guard_is_yielded_as_it_is_computed(bundle: Bundle) -> None:
    done: list[int] = []
    next(Imputer(bundle).impute(TARGET, progress=done.append))
    assert done == []


def test_guarded_result_equals_unguarded_result(bundle: Bundle) -> None:
    plain = list(Imputer(bundle).impute(TARGET))
    for max_held in (0, N_CELLS):
        imputer, _ = guarded(bundle, max_held)
        for one, other in zip(imputer.impute(TARGET), plain, strict=True):
            assert (one.start, one.stop) == (other.start, other.stop)
            np.testing.assert_array_equal(one.haplotype_dosage, other.haplotype_dosage)


@pytest.mark.parametrize("max_held", [0, N_CELLS])
def test_error_while_predicting_leaves_the_guard(bundle: Bundle, max_held: int) -> None:
    imputer, guard = guarded(bundle, max_held)
    with pytest.raises(ZeroDivisionError):
        list(imputer.impute(TARGET, cancelled=lambda: 1 // 0))  # type: ignore[arg-type,return-value]
    assert (guard.held, guard.entered) == (False, 1)


def test_reader_that_stops_early_leaves_the_guard(bundle: Bundle) -> None:
    imputer, guard = guarded(bundle, 0)
    blocks = imputer.impute(TARGET)

    def write() -> None:
        with closing(blocks):
            next(blocks)
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space") as kept:  # with its traceback, and so the generator
        write()
    assert not guard.held
    assert kept.value.errno == 28


def test_phase_holds_the_guard(bundle: Bundle) -> None:
    imputer, guard = guarded(bundle, N_CELLS)
    unphased: MatchedTarget = dataclasses.replace(TARGET, phased=np.zeros_like(TARGET.phased))
    phased = imputer.phase(unphased)
    assert phased.phasings is not None
    assert (guard.held, guard.entered) == (False, 1)


def test_file_that_cannot_be_written_leaves_the_guard(bundle: Bundle, tmp_path: Path) -> None:
    imputer, guard = guarded(bundle, 0)
    target = write_vcf(tmp_path / "target.vcf.gz", vcf_text([(pos, "A", "G", "0|1 1|0") for pos in (500, 9000)]))
    (tmp_path / "file").touch()
    with pytest.raises(InputError) as caught:
        impute_file(imputer, target, tmp_path / "file" / "out.vcf.gz")
    assert caught.value.code == "output_not_writable"
    assert not guard.held
