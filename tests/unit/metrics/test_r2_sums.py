from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vcfbert.errors import ArtifactError, InputError
from vcfbert.metrics.accuracy import DosageR2
from vcfbert.metrics.r2_sums import BLOCKS, R2Sums, R2SumsBuilder, read_r2_sums


def small() -> R2Sums:
    """Two samples at three sites: MAF 0.3, 0.3 with ALT the major allele, 0.02."""
    sums = R2SumsBuilder(("a", "b"), 3)
    truth, dosage = np.array([[0, 1], [2, 1]]), np.array([[0.5, 1.0], [2.0, 1.5]])
    sums.update(np.array([0, 1]), truth, dosage, np.array([0.3, 0.7]))
    sums.update(np.array([2]), np.array([[-1, 2]]), np.array([[1.0, 1.0]]), np.array([0.02]))
    return sums.result()


def test_sums_by_sample_and_by_block_are_those_written_by_hand() -> None:
    r2_sums = small()
    common, low = 3, 2  # bins 5-50% and 1-5%
    assert r2_sums.by_sample[0, common].tolist() == [2, 0, 0.5, 0, 0.25, 0]
    assert r2_sums.by_sample[1, common].tolist() == [2, 2, 1.5, 2, 1.25, 1.5]
    assert r2_sums.by_sample[0, low].tolist() == [0] * 6  # missing
    assert r2_sums.by_sample[1, low].tolist() == [1, 2, 1, 4, 1, 2]
    assert r2_sums.by_block.shape == (3, 4, 6)
    assert r2_sums.by_block[0, common].tolist() == [2, 1, 1.5, 1, 1.25, 1]
    assert r2_sums.by_block[2, low].tolist() == [1, 2, 1, 4, 1, 2]
    assert np.array_equal(r2_sums.by_block.sum(axis=0), r2_sums.by_sample.sum(axis=0))


def test_r2_sums_give_the_r2_of_the_scores_in_equal_blocks() -> None:
    generator = np.random.default_rng(3)
    truth = generator.integers(0, 3, (500, 8))
    dosage, af = generator.uniform(0, 2, truth.shape), generator.uniform(0.001, 0.999, 500)
    sums, whole = R2SumsBuilder(tuple("abcdefgh"), 500), DosageR2()
    order = generator.permutation(500)
    for at in np.array_split(order, 7):  # in whatever order the file has them
        sums.update(at, truth[at], dosage[at], af[at])
    whole.update(truth, dosage, af)
    r2_sums = sums.result()
    assert np.allclose(r2_sums.by_sample.sum(axis=0), whole.sums)
    assert r2_sums.by_block[:, :, 0].sum(axis=1).tolist() == [500 * 8 / BLOCKS] * BLOCKS


def test_r2_sums_round_trip(tmp_path: Path) -> None:
    r2_sums = small()
    r2_sums.write(tmp_path / "m.npz")
    again = read_r2_sums(tmp_path / "m.npz")
    assert again.samples == ("a", "b")
    assert np.array_equal(again.by_sample, r2_sums.by_sample)
    assert np.array_equal(again.by_block, r2_sums.by_block)
    assert [path.name for path in tmp_path.iterdir()] == ["m.npz"]
    r2_sums.write(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "m.npz").read_bytes()  # DVC goes by content


def test_file_without_r2_sums_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_r2_sums(tmp_path / "none.npz")
    assert caught.value.code == "file_not_found"
    r2_sums = small()
    r2_sums.write(tmp_path / "cut.npz")
    whole = (tmp_path / "cut.npz").read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        (tmp_path / "cut.npz").write_bytes(content)
        with pytest.raises(ArtifactError) as caught:
            read_r2_sums(tmp_path / "cut.npz")
        assert caught.value.code == "moments_invalid"
    np.savez(tmp_path / "old.npz", version=0)
    with pytest.raises(ArtifactError) as caught:
        read_r2_sums(tmp_path / "old.npz")
    assert caught.value.code == "moments_version"


def test_pairs_with_requires_the_same_truth() -> None:
    one, other = small(), small()
    other.by_sample[..., [2, 4, 5]] += 1.0  # another dosage
    assert one.pairs_with(other)
    other.by_block[0, 3, 1] += 1.0  # another truth
    assert not one.pairs_with(other)
    assert not one.pairs_with(R2Sums(("a", "c"), one.by_sample, one.by_block))
