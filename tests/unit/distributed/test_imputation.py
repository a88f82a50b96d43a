"""Imputation in tasks writes the file that ``impute_file`` writes in one process."""

from __future__ import annotations

import dataclasses
import gzip
import re
from pathlib import Path

import numpy as np
import pysam
import pytest

from tests.helpers.tiny import perturbed_bundle, tiny_config
from vcfbert.distributed.imputation import Plan, plan_job, run_job
from vcfbert.distributed.job import ChunkSpec, Settings, imputer_of
from vcfbert.distributed.scheduler import InProcess, unfinished
from vcfbert.distributed.tasks import job_tasks
from vcfbert.errors import InputError
from vcfbert.genotypes.encoding import hmm_windows, windows_of
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.store import panel_digest
from vcfbert.imputation.files import DEFAULT_OPTIONS, ImputeOptions, impute_file

ARRAY = Path(__file__).parents[3] / "data/demo/target_array.vcf.gz"
FIELDS = ("GT", "DS", "HDS", "GP", "GQ")


@pytest.fixture(scope="module")
def bundles(demo_cut: Panel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles of V18 and V19 with about four windows each. Multiallelic records lie where windows begin."""
    folder = tmp_path_factory.mktemp("bundles")
    config = tiny_config({"encode": {"window": 256, "flank": 16, "copy_window": 256, "copy_span_cm": 0.05}})
    for variant in ("v18", "v19"):
        windows = hmm_windows(demo_cut, 256, 0.05) if variant == "v19" else windows_of(demo_cut, config.encode)
        starts = [window.start for window in windows]
        panel = with_multiallelic_records(demo_cut, [s + i for s in starts[1:] for i in (-1, 0, 1)])
        perturbed_bundle(folder / variant, [panel], variant, config, size=0.1)
    return folder


def with_multiallelic_records(panel: Panel, numbers: list[int]) -> Panel:
    """Turns the sites ``numbers`` into further ALT alleles, insertions, of the site before."""
    pos, ref, alt, continues = (getattr(panel.sites, name).copy() for name in ("pos", "ref", "alt", "continues"))
    for number in numbers:
        pos[number], ref[number] = pos[number - 1], ref[number - 1]
        alt[number], continues[number] = f"{alt[number - 1]}T", True
    sites = dataclasses.replace(panel.sites, pos=pos, ref=ref, alt=alt, continues=continues)
    changed = dataclasses.replace(panel, sites=sites)
    return dataclasses.replace(changed, digest=panel_digest(changed))


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven samples of the array file, unphased, phased and mixed. One is haploid in all three."""
    folder = tmp_path_factory.mktemp("targets")
    for name, phased in (("unphased", 0), ("mixed", 3), ("phased", 7)):
        _write_target(folder / f"{name}.vcf.gz", phased)
    return folder


def _write_target(path: Path, n_phased: int) -> None:
    """Swaps REF and ALT in every fifth record and removes the calls of the third."""
    with pysam.VariantFile(str(ARRAY)) as source:
        source.subset_samples(list(source.header.samples)[5:12])
        with pysam.VariantFile(str(path), "wz", header=source.header) as sink:
            for number, record in enumerate(source.fetch("20", 1_000_000, 1_105_000)):
                exchanged = number % 5 == 0
                if exchanged:
                    record.alleles = record.alleles[::-1]
                for place, call in enumerate(record.samples.values()):
                    indices = [1 - i if exchanged else i for i in call.allele_indices]
                    call.allele_indices = [None, None] if number == 2 else indices[: 1 if place == 6 else 2]
                    call.phased = place < n_phased or place == 6
                sink.write(record)


def settings(bundles: Path, variant: str = "v19", *, ignore_phase: bool = False) -> Settings:
    return Settings(bundles / variant, "fast", ignore_phase, batch_size=64, threads=1)


def text(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


def assert_equals_impute_file(plan: Plan, target: Path, tmp_path: Path) -> None:
    """Runs the plan and compares every digit with ``impute_file``.

    With several groups DR2 is compared within a tolerance: its small variances depend on float32 rounding, and that
    depends on how many samples are predicted at once.
    """
    out, whole = tmp_path / "out.vcf.gz", tmp_path / "whole.vcf.gz"
    finished: list[int] = []
    imputed = run_job(plan, InProcess(), out, finished=finished.append)
    assert sum(finished) == len(job_tasks(plan.job))
    expected = impute_file(imputer_of(plan.job.settings), target, whole, plan.job.options)
    assert imputed.report == expected.report
    if len(plan.job.groups) == 1:
        assert text(out) == text(whole)
        assert imputed.summary == expected.summary
    else:
        (lines, dr2), (lines_whole, dr2_whole) = without_dr2(out), without_dr2(whole)
        assert lines == lines_whole
        np.testing.assert_allclose(dr2, dr2_whole, atol=1e-5)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        f"{name}.vcf.gz{end}" for name in ("out", "whole") for end in ("", ".tbi")
    )


def without_dr2(path: Path) -> tuple[list[str], list[float]]:
    content = text(path).decode()
    values = re.findall(r"DR2=([^;]*)", content)
    return re.sub(r"DR2=[^;]*", "", content).split("\n"), [float(one) for value in values for one in value.split(",")]


@pytest.mark.parametrize(
    ("variant", "name", "ignore_phase", "max_samples"),
    [
        ("v18", "phased", False, 7),
        ("v19", "phased", False, 7),
        ("v19", "unphased", False, 7),
        ("v19", "phased", False, 3),
        ("v19", "phased", True, 3),
        ("v19", "unphased", False, 3),
        ("v19", "mixed", False, 3),
    ],
)
def test_run_job_writes_the_file_of_impute_file(
    bundles: Path, targets: Path, tmp_path: Path, variant: str, name: str, ignore_phase: bool, max_samples: int
) -> None:
    target, options = targets / f"{name}.vcf.gz", ImputeOptions(fields=FIELDS)
    how = settings(bundles, variant, ignore_phase=ignore_phase)
    plan = plan_job(
        how, target, tmp_path / "out.vcf.gz", options, chunking=ChunkSpec(0.0, max_samples), work=tmp_path / "work"
    )
    assert len(plan.job.chunks) >= 3
    assert len(plan.job.groups) == (1 if max_samples == 7 else 3)
    starts = {window.start for window in imputer_of(how).bundle.parts[0].windows}
    assert any(first not in starts for _, first, _ in plan.job.chunks), "no cut was moved to keep a record whole"
    assert_equals_impute_file(plan, target, tmp_path)


def test_run_job_with_options_writes_the_file_of_impute_file(bundles: Path, targets: Path, tmp_path: Path) -> None:
    target = targets / "phased.vcf.gz"
    options = ImputeOptions(region="20:1020000-1080000", fields=("GT", "DS"), min_dr2=0.3)
    plan = plan_job(
        settings(bundles), target, tmp_path / "out.vcf.gz", options, chunking=ChunkSpec(0.0, 7), work=tmp_path / "work"
    )
    assert_equals_impute_file(plan, target, tmp_path)


@pytest.mark.parametrize("name", ["out.bcf", "out.vcf", "out.vcf.gz"])
def test_run_job_writes_every_output_format(bundles: Path, targets: Path, tmp_path: Path, name: str) -> None:
    target, out, whole = targets / "phased.vcf.gz", tmp_path / name, tmp_path / "whole" / name
    whole.parent.mkdir()
    plan = plan_job(settings(bundles), target, out, DEFAULT_OPTIONS, chunking=ChunkSpec(0.0), work=tmp_path / "work")
    run_job(plan, InProcess(), out)
    impute_file(imputer_of(settings(bundles)), target, whole)
    with pysam.VariantFile(str(out)) as found, pysam.VariantFile(str(whole)) as expected:
        assert str(found.header) == str(expected.header)
        assert list(map(str, found)) == list(map(str, expected))
        if name != "out.vcf":  # through the index, across the borders of parts
            pos = imputer_of(settings(bundles)).bundle.panels[0].sites.pos
            for _, first, _ in plan.job.chunks:
                interval = ("20", int(pos[max(first - 5, 0)]) - 1, int(pos[first + 5]))
                assert list(map(str, found.fetch(*interval))) == list(map(str, expected.fetch(*interval)))


class Interrupted(Exception):
    pass


def test_interrupted_job_resumes_with_the_remaining_tasks(bundles: Path, targets: Path, tmp_path: Path) -> None:
    target, out = targets / "unphased.vcf.gz", tmp_path / "out.vcf.gz"

    def plan(options: ImputeOptions = DEFAULT_OPTIONS) -> Plan:
        chunking = ChunkSpec(0.0, 4)
        return plan_job(settings(bundles), target, out, options, chunking=chunking, work=tmp_path / "work")

    def stop_at_the_seventh(_: int) -> None:
        done.append(1)
        if len(done) == 7:
            raise Interrupted

    done: list[int] = []
    with pytest.raises(Interrupted):
        run_job(plan(), InProcess(), out, finished=stop_at_the_seventh)
    assert not out.exists()
    assert len(unfinished(job_tasks(plan().job))) == len(job_tasks(plan().job)) - 7
    other = plan(ImputeOptions(fields=("DS",)))
    assert len(unfinished(job_tasks(other.job))) == len(job_tasks(other.job)), "a job of other options reuses nothing"
    finished: list[int] = []
    run_job(plan(), InProcess(), out, finished=finished.append)
    assert finished == [7] + [1] * (len(job_tasks(other.job)) - 7)
    impute_file(imputer_of(settings(bundles)), target, tmp_path / "whole.vcf.gz")
    assert without_dr2(out)[0] == without_dr2(tmp_path / "whole.vcf.gz")[0]


def test_plan_job_refuses_bad_input_before_any_task(bundles: Path, targets: Path, tmp_path: Path) -> None:
    def refusal(variant: str, target: Path, out: Path) -> str:
        with pytest.raises(InputError) as caught:
            plan_job(
                settings(bundles, variant), target, out, DEFAULT_OPTIONS, chunking=ChunkSpec(), work=tmp_path / "work"
            )
        return caught.value.code

    phased = targets / "phased.vcf.gz"
    assert refusal("v18", targets / "unphased.vcf.gz", tmp_path / "out.vcf.gz") == "unphased"
    assert refusal("v19", phased, phased) == "same_file"
    assert refusal("v19", phased, tmp_path / "out.txt") == "output_format"
    assert not (tmp_path / "work").exists()


def test_memory_estimate_grows_with_samples_and_chunk_length(bundles: Path, targets: Path, tmp_path: Path) -> None:
    def memory(chunking: ChunkSpec) -> int:
        out = tmp_path / "out.vcf.gz"
        target = targets / "phased.vcf.gz"
        return plan_job(
            settings(bundles), target, out, DEFAULT_OPTIONS, chunking=chunking, work=tmp_path / "work"
        ).memory

    assert memory(ChunkSpec(0.0, 2)) < memory(ChunkSpec(0.0, 7)) < memory(ChunkSpec(100.0, 7))
