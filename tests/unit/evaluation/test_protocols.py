from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from vcfbert.bundle.contents import Bundle
from vcfbert.config import EvaluateConfig
from vcfbert.copying.mixture import CopyingModel
from vcfbert.errors import InputError
from vcfbert.evaluation.protocols import array_protocol
from vcfbert.genotypes.conversion import panel_from_genotypes
from vcfbert.genotypes.vcf_reader import read_genotypes

CASE = Path(__file__).parents[2] / "data/scoring"


@pytest.fixture
def bundle() -> Bundle:
    """What scoring needs of one: the panel."""
    panel = panel_from_genotypes(read_genotypes(CASE / "panel.vcf.gz"))
    return cast(Bundle, SimpleNamespace(panels=(panel,), parts=(), model=CopyingModel.first(), k=2))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The targets that were to be imputed; what is written is the case's imputed file, whatever was asked."""
    seen: list[Path] = []

    def impute_file(imputer: Any, target: Path, out: Path, **options: Any) -> None:
        seen.append(target)
        shutil.copy2(CASE / "imputed.vcf.gz", out)

    monkeypatch.setattr("vcfbert.evaluation.protocols.impute_file", impute_file)
    return seen


@pytest.mark.parametrize("unphased", [False, True])
def test_array_protocol_excludes_the_typed_sites_of_its_targets(
    bundle: Bundle, asked: list[Path], tmp_path: Path, unphased: bool
) -> None:
    phased = tmp_path / "phased.tsv"
    shutil.copy2(CASE / "typed.tsv", phased)
    nothing = tmp_path / "unphased.tsv"
    nothing.write_text("20 1\n")  # so every site is scored
    config = EvaluateConfig(truth=str(CASE / "truth.vcf.gz"), typed_phased=str(phased), typed_unphased=str(nothing))
    scores, cost = array_protocol(bundle, config, tmp_path / "out.vcf.gz", unphased=unphased)
    assert asked == [nothing if unphased else phased]
    assert cost["seconds"] > 0
    other, _ = array_protocol(bundle, config, tmp_path / "out.vcf.gz", unphased=not unphased)
    more, fewer = (scores, other) if unphased else (other, scores)
    assert more.row().sites > fewer.row().sites


def test_unphased_targets_without_a_file_are_refused(bundle: Bundle, asked: list[Path], tmp_path: Path) -> None:
    config = EvaluateConfig(truth=str(CASE / "truth.vcf.gz"), typed_phased=str(CASE / "typed.tsv"))
    with pytest.raises(InputError, match=r"evaluate\.typed_unphased is not set") as caught:
        array_protocol(bundle, config, tmp_path / "out.vcf.gz", unphased=True)
    assert caught.value.code == "params_invalid"
    assert asked == []
