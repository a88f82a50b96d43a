from __future__ import annotations

from pathlib import Path

from vcfbert.tracking.dvc_lock import stage_digests

LOCK = """\
schema: '2.0'
stages:
  prepare:
    cmd: python -m pipelines.prepare
    deps:
    - path: data/demo/panel.vcf.gz
      hash: md5
      md5: 11111111111111111111111111111111
    outs:
    - path: data/work/panel
      hash: md5
      md5: 22222222222222222222222222222222.dir
      size: 1
      nfiles: 3
  embed:
    outs:
    - path: data/work/embedded
      md5: 33333333333333333333333333333333.dir
  train@v17:
    outs:
    - path: models/v17
      md5: 44444444444444444444444444444444.dir
"""


def test_stage_digests_cover_only_the_data_stages(tmp_path: Path) -> None:
    lock = tmp_path / "dvc.lock"
    lock.write_text(LOCK)
    assert stage_digests(lock) == {
        "dvc/data/work/panel": "22222222222222222222222222222222.dir",
        "dvc/data/work/embedded": "33333333333333333333333333333333.dir",
    }


def test_stage_digests_without_lock_file_are_empty(tmp_path: Path) -> None:
    assert stage_digests(tmp_path / "dvc.lock") == {}
    (tmp_path / "dvc.lock").write_text("")
    assert stage_digests(tmp_path / "dvc.lock") == {}


def test_data_stages_exist_in_the_pipeline() -> None:
    """A stage renamed in dvc.yaml would silently vanish from every run's tags."""
    import yaml

    from vcfbert.tracking.dvc_lock import DATA_STAGES

    stages = yaml.safe_load((Path(__file__).parents[3] / "dvc.yaml").read_text())["stages"]
    assert set(DATA_STAGES) <= set(stages)
