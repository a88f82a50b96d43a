"""Genotypes at rest: only the service's user can read what the service writes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.helpers.command_line import TinyFiles
from tests.service.jobs.test_processes import service_at

pytestmark = pytest.mark.integration


def open_to_others(folder: Path) -> list[str]:
    """The files and folders that group or others may use."""
    return [str(path) for path in (folder, *folder.rglob("*")) if path.lstat().st_mode & 0o077]


def test_everything_in_the_data_folder_is_private(tiny_files: TinyFiles, tmp_path: Path) -> None:
    data, before = tmp_path / "data", os.umask(0o022)
    data.mkdir(mode=0o755)  # of an earlier version
    upload = tiny_files.target.read_bytes()
    try:
        with service_at(data, module="service", MODEL=str(tiny_files.fitted("v19")), THREADS="1") as service:
            kept = service.client.post("/v1/qc", files={"file": ("mine.vcf", upload)}, data={"keep": "true"})
            assert kept.status_code == 200, kept.text
            (job,) = service.all_end([service.send(upload)])
            assert job["state"] == "done"
            assert len(list(data.glob("*/*/*"))) > 4  # of jobs, kept uploads and the bundle
            assert open_to_others(data) == []
    finally:
        os.umask(before)


def test_downloaded_results_are_private(tiny_files: TinyFiles, tmp_path: Path) -> None:
    from vcfbert.client import Client

    before = os.umask(0o022)
    values = {"MODEL": str(tiny_files.fitted("v19")), "THREADS": "1"}
    try:
        with (
            service_at(tmp_path / "data", module="service", **values) as service,
            Client(str(service.client.base_url)) as client,
        ):
            small, out = tmp_path / "small.vcf.gz", tmp_path / "out.vcf.gz"
            client.impute(tiny_files.target, small)
            job = client.wait(client.submit(tiny_files.target)["id"])
            client.download(job["id"], out)
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (small, out)] == [0o600, 0o600]
