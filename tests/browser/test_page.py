"""The page before the real service, its worker and a tiny model: from a file to its imputed file."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pysam
import pytest
from playwright.sync_api import Page, expect

from service.app import create_app
from service.settings import Settings
from tests.browser.servers import served
from tests.helpers.command_line import TinyFiles
from tests.helpers.held_worker import HOLD
from vcfbert.artifacts import write_text


@dataclass
class Site:
    """A service without keys, and the worker that runs its jobs."""

    url: str
    worker: subprocess.Popen[bytes]
    data: Path

    def hold(self, windows: int) -> None:
        """The worker waits in the middle of a job, after so many windows."""
        write_text(self.data / HOLD, str(windows))

    def let_go(self) -> None:
        (self.data / HOLD).unlink()


@pytest.fixture(scope="module")
def site(tiny_files: TinyFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    data = tmp_path_factory.mktemp("service")
    settings = Settings(model=str(tiny_files.bundle), data=data, embedded_worker=False, poll_seconds=0, drain_seconds=1)
    environment = {**os.environ, "VCFBERT_MODEL": str(tiny_files.bundle), "VCFBERT_DATA": str(data)}
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.held_worker"], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        with served(create_app(settings)) as url:
            yield Site(url, worker, data)
    finally:
        worker.kill()
        worker.wait()


@pytest.fixture
def home(page: Page, site: Site) -> Iterator[Page]:
    """The page, with its model loaded."""
    page.goto(site.url)
    expect(page.locator("#file")).to_be_enabled(timeout=60_000)
    yield page
    page.goto("about:blank")


def state_is(page: Page, state: str) -> None:
    expect(page.locator("#job .badge")).to_have_text(state, timeout=60_000)


def check(page: Page, file: Path) -> None:
    page.locator("#file").set_input_files(file)
    expect(page.locator("#options")).to_be_visible()


def download(page: Page, link: str, folder: Path) -> Path:
    with page.expect_download() as waiting:
        page.get_by_role("link", name=link, exact=True).click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def lines_of(path: Path) -> list[str]:
    with gzip.open(path, "rt") as lines:
        return [line for line in lines if not line.startswith("##")]


def test_page_imputes_a_file_and_offers_its_results(home: Page, tiny_files: TinyFiles, tmp_path: Path) -> None:
    check(home, tiny_files.target)
    expect(home.locator("#qc")).to_contain_text("Same alleles as the panel")
    home.get_by_role("button", name="Start imputation").click()
    state_is(home, "Done")
    expect(home.locator("#job")).to_contain_text("6 samples imputed at 300 sites")
    expect(home.locator("#job figure")).to_have_count(5)
    result = download(home, "Imputed VCF.gz", tmp_path)
    assert result.name == "target_array_phased.imputed.vcf.gz"
    download(home, "Index", tmp_path)
    with pysam.VariantFile(str(result)) as imputed, pysam.VariantFile(str(tiny_files.truth)) as truth:
        assert list(imputed.header.samples) == list(truth.header.samples)
        records = list(imputed.fetch())  # by the index
        assert len(records) == 300
        assert set(records[0].format.keys()) == {"GT", "DS", "HDS", "GP"}
        dosages = [dosage for record in records for call in record.samples.values() for dosage in call["DS"]]
        assert 0 <= min(dosages) < 1 < max(dosages) <= 2
    assert json.loads(download(home, "QC summary (JSON)", tmp_path).read_text())["n_samples"] == 6
    assert download(home, "QC sites (TSV)", tmp_path).read_text().startswith("chrom\tpos\t")
    assert json.loads(download(home, "Report (JSON)", tmp_path).read_text())


def test_options_of_the_page_reach_the_result(home: Page, tiny_files: TinyFiles, tmp_path: Path) -> None:
    first, last = (int(line.split("\t")[1]) for line in (lines_of(tiny_files.panel)[i] for i in (1, 150)))
    check(home, tiny_files.target)
    home.get_by_label("Region").fill(f"20:{first}-{last}")
    home.get_by_label("BCF", exact=True).check()
    for field in ("HDS, dosage of each haplotype", "GP, genotype probabilities"):
        home.get_by_label(field).uncheck()
    home.get_by_label("GQ, genotype quality").check()
    home.get_by_role("button", name="Start imputation").click()
    state_is(home, "Done")
    result = download(home, "Imputed BCF", tmp_path)
    with pysam.VariantFile(str(result)) as imputed:
        records = list(imputed)
    assert (records[0].pos, records[-1].pos) == (first, last)
    assert records[0].format.keys() == ["GT", "DS", "GQ"]


def progress(page: Page) -> float:
    """Of the bar; 0 while it has no value."""
    return float(page.evaluate("document.querySelector('#job progress')?.getAttribute('value') ?? 0"))


def progress_passes(page: Page, share: float) -> float:
    """The progress as soon as it is more."""
    for _ in range(600):
        if (now := progress(page)) > share:
            return now
        page.wait_for_timeout(50)
    pytest.fail(f"there is no more progress than {share}")


def test_reload_while_job_runs_shows_its_progress(
    home: Page, site: Site, tiny_files: TinyFiles, tmp_path: Path
) -> None:
    site.hold(2)
    try:
        check(home, tiny_files.target)
        home.get_by_role("button", name="Start imputation").click()
        state_is(home, "Running")
        before = progress_passes(home, 0)
        assert before < 0.7
        address = home.url
        home.reload()
        state_is(home, "Running")
        assert progress_passes(home, 0) == before  # the worker is held: there is no more, and no less
        expect(home.locator("#job-progress")).to_contain_text("of 300 sites")
        assert home.url == address
        site.hold(4)
        assert before < progress_passes(home, before) < 1
        home.goto(site.url)
        home.locator("#job-list").get_by_role("link", name="Running").click()
        assert progress_passes(home, before) < 1
    finally:
        site.let_go()
    state_is(home, "Done")
    assert len(lines_of(download(home, "Imputed VCF.gz", tmp_path))) == 301


def test_reload_after_the_check_keeps_the_file(home: Page, site: Site, tiny_files: TinyFiles) -> None:
    sent: list[str] = []
    home.on("request", lambda request: sent.append(f"{request.method} {urlsplit(request.url).path}"))
    check(home, tiny_files.target)
    assert "#check/" in home.url
    home.reload()
    expect(home.locator("#options")).to_be_visible()
    expect(home.locator("#chosen")).to_contain_text("target_array_phased.vcf.gz")
    home.get_by_role("button", name="Start imputation").click()
    state_is(home, "Done")
    expect(home.locator("#job h1")).to_have_text("target_array_phased.vcf.gz")
    assert sent.count("POST /v1/qc") == 2
    assert sent.count("POST /v1/jobs") == 1
    assert list((site.data / "kept").iterdir()) == []  # its job has it


def test_reload_while_job_is_queued_shows_it(home: Page, site: Site, tiny_files: TinyFiles) -> None:
    site.worker.send_signal(signal.SIGSTOP)
    try:
        check(home, tiny_files.target)
        home.get_by_role("button", name="Start imputation").click()
        state_is(home, "Queued")
        address = home.url
        home.reload()
        state_is(home, "Queued")
        assert home.url == address
        # Without the address the job is found in the list.
        home.goto(site.url)
        home.locator("#job-list").get_by_role("link", name="Queued").click()
        state_is(home, "Queued")
        assert home.url == address
    finally:
        site.worker.send_signal(signal.SIGCONT)
    state_is(home, "Done")
    expect(home.get_by_role("link", name="Imputed VCF.gz")).to_be_visible()


def test_queued_job_is_cancelled(home: Page, site: Site, tiny_files: TinyFiles) -> None:
    site.worker.send_signal(signal.SIGSTOP)
    try:
        check(home, tiny_files.target)
        home.get_by_role("button", name="Start imputation").click()
        state_is(home, "Queued")
        identity = home.url.rpartition("/")[2]
        home.get_by_role("button", name="Cancel this job").click()
        home.get_by_role("dialog").get_by_role("button", name="Cancel", exact=True).click()
        expect(home.get_by_role("heading", name="Genotype imputation")).to_be_focused()
    finally:
        site.worker.send_signal(signal.SIGCONT)
    expect(home.locator(f'#job-list [data-id="{identity}"] .badge')).to_have_text("Cancelled")


def test_file_that_is_not_vcf_is_refused_with_reason(home: Page, tmp_path: Path) -> None:
    letter = tmp_path / "letter.vcf"
    letter.write_text("Dear colleague,\n")
    home.locator("#file").set_input_files(letter)
    box = home.locator("#qc").get_by_role("alert")
    expect(box).to_contain_text("letter.vcf")
    expect(box).to_contain_text("not_vcf")
    expect(box).to_contain_text("What to do:")
    expect(box.get_by_role("heading")).to_be_focused()
    expect(home.locator("#options")).to_be_hidden()


def test_file_of_wrong_build_is_refused_with_report(home: Page, tiny_files: TinyFiles, tmp_path: Path) -> None:
    other = tmp_path / "hg38.vcf"
    with gzip.open(tiny_files.target, "rt") as source, other.open("w") as sink:
        for line in source:
            fields = line.split("\t")
            if not line.startswith("#"):  # alleles that no site of the panel has, on neither strand
                fields[3:5] = fields[3][0], {"A": "AT", "C": "CT", "G": "GT", "T": "TA"}[fields[3][0]]
            sink.write("\t".join(fields))
    home.locator("#file").set_input_files(other)
    box = home.locator("#qc").get_by_role("alert")
    expect(box).to_contain_text("wrong_build")
    expect(box).to_contain_text("ask the operator to offer a chain file")
    expect(home.locator("#qc")).to_contain_text("Different alleles than the panel")
    expect(home.locator("#options")).to_be_hidden()
    expect(home.locator("#file")).to_be_enabled()


def test_page_works_with_keyboard_alone(home: Page, tiny_files: TinyFiles, tmp_path: Path) -> None:
    # From the start: the Enter key may be faster than the interception of dialogs, which this switches on.
    home.on("filechooser", lambda chooser: chooser.set_files(tiny_files.target))
    home.keyboard.press("Tab")
    expect(home.locator("#skip")).to_be_focused()
    home.keyboard.press("Enter")
    home.keyboard.press("Tab")
    expect(home.locator("#file")).to_be_focused()
    home.keyboard.press("Enter")
    expect(home.get_by_role("heading", name="Quality of the input")).to_be_focused()
    press_until(home, "Start imputation")
    home.keyboard.press("Enter")
    expect(home.get_by_role("heading", name="target_array_phased.vcf.gz")).to_be_focused()
    state_is(home, "Done")
    press_until(home, "Imputed VCF.gz")
    with home.expect_download() as waiting:
        home.keyboard.press("Enter")
    waiting.value.save_as(tmp_path / "result.vcf.gz")
    assert len(lines_of(tmp_path / "result.vcf.gz")) == 301


def press_until(page: Page, name: str) -> None:
    """Tab after Tab until the control of that name has the focus, and shows it."""
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == name:
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
            return
    pytest.fail(f"the Tab key does not lead to {name!r}")


def test_documentation_is_linked_and_fits_a_phone(home: Page) -> None:
    home.get_by_role("link", name="API").click()
    expect(home.locator("body")).to_contain_text("/v1/jobs")
    home.set_viewport_size({"width": 360, "height": 740})
    assert home.evaluate("document.documentElement.scrollWidth") == 360


def test_static_files_are_revalidated_and_paths_are_refused(home: Page, site: Site) -> None:
    answer = home.request.get(f"{site.url}/static/app.js")
    assert answer.headers["cache-control"] == "no-cache"
    again = home.request.get(f"{site.url}/static/app.js", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status, again.body()) == (304, b"")
    for name in ("..%2fapp.py", "%2e%2e/app.py", "none.js", "__init__.py"):
        assert home.request.get(f"{site.url}/static/{name}").status == 404
