"""The page before a canned service: what people see when something is wrong, and how they get on."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.fake_api import MODEL, Fake, FakeJob, create_fake, problem
from tests.browser.servers import served

FILE: Any = {"name": "cohort.vcf.gz", "mimeType": "application/gzip", "buffer": b"x" * 300_000}


@dataclass
class Opened:
    fake: Fake
    page: Page
    url: str

    def choose(self, file: Any = FILE) -> None:
        expect(self.page.locator("#file")).to_be_enabled()
        self.page.locator("#file").set_input_files(file)

    def check(self, file: Any = FILE) -> None:
        self.choose(file)
        expect(self.page.locator("#options")).to_be_visible()

    def start(self) -> None:
        self.check()
        self.page.get_by_role("button", name="Start imputation").click()

    def reload(self) -> None:
        self.page.goto(self.url)


@pytest.fixture
def opened(page: Page) -> Iterator[Opened]:
    fake = Fake()
    with served(create_fake(fake)) as url:
        page.goto(url)
        yield Opened(fake, page, url)
        page.goto("about:blank")  # no request after the server has gone


def state(page: Page) -> Any:
    return page.locator("#job .badge")


def overflow(page: Page) -> int:
    """CSS pixels by which the page is wider than the window."""
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


def test_key_is_requested_kept_in_the_tab_and_sent_with_downloads(opened: Opened, tmp_path: Path) -> None:
    page, opened.fake.key = opened.page, "right"
    opened.fake.queued_s = opened.fake.running_s = 0.1
    opened.reload()
    expect(page.get_by_label("Key", exact=True)).to_be_focused()
    page.get_by_label("Key", exact=True).fill("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#key-error")).to_have_text("This key is not valid.")
    page.get_by_label("Key", exact=True).fill("right")
    page.keyboard.press("Enter")
    expect(page.locator("#key-form")).to_be_hidden()
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    opened.start()
    expect(state(page)).to_have_text("Done")
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Imputed VCF.gz").click()
    assert waiting.value.suggested_filename == "cohort.imputed.vcf.gz"
    waiting.value.save_as(tmp_path / "result")
    assert (tmp_path / "result").read_text().startswith("result of ")
    page.get_by_role("button", name="Forget the key").click()
    expect(page.get_by_label("Key", exact=True)).to_be_focused()


def test_page_waits_while_the_model_is_loaded(opened: Opened) -> None:
    opened.fake.models = []
    opened.reload()
    expect(opened.page.get_by_role("alert")).to_contain_text("The model is being loaded.")
    expect(opened.page.locator("#file")).to_be_disabled()
    opened.fake.models = [dict(MODEL)]
    expect(opened.page.locator("#models")).to_contain_text("20:1000000-2999941")
    expect(opened.page.locator("#file")).to_be_enabled()


def test_full_queue_is_shown_and_the_file_can_be_sent_again(opened: Opened) -> None:
    page = opened.page
    opened.check()
    opened.fake.trouble["/v1/jobs"] = problem(429, "queue_full", "100 jobs wait already", retry=40)
    page.get_by_role("button", name="Start imputation").click()
    alert = page.locator("#start").get_by_role("alert")
    expect(alert).to_contain_text("The service is busy")
    expect(alert).to_contain_text("Try again in about 40 s.")
    expect(alert.get_by_role("heading")).to_be_focused()
    opened.fake.trouble.clear()
    alert.get_by_role("button", name="Try again").click()
    expect(state(page)).to_have_text("Done")


def test_lost_connection_is_shown_and_the_job_found_again(opened: Opened) -> None:
    page = opened.page
    opened.fake.running_s = 3.0
    opened.start()
    expect(state(page)).to_have_text("Running")
    page.context.set_offline(True)
    expect(page.locator("#trouble")).to_contain_text("The service does not answer")
    expect(page.locator("#trouble")).to_contain_text("The job continues on the service")
    page.context.set_offline(False)
    expect(state(page)).to_have_text("Done")
    expect(page.locator("#trouble")).to_be_empty()


def test_interrupted_upload_is_shown_and_can_be_repeated(opened: Opened) -> None:
    page = opened.page
    expect(page.locator("#file")).to_be_enabled()
    page.context.set_offline(True)
    opened.choose()
    expect(page.locator("#qc")).to_contain_text("The upload did not reach the service.")
    page.context.set_offline(False)
    page.locator("#qc").get_by_role("button", name="Try again").click()
    expect(page.locator("#options")).to_be_visible()


def test_refused_file_shows_what_where_and_what_to_do(opened: Opened) -> None:
    opened.fake.refused = {
        "code": "wrong_build",
        "detail": "3 of 520 sites are in the panel",
        "where": "cohort.vcf.gz",
        "hint": "lift the file over to GRCh37",
    }
    opened.choose()
    box = opened.page.locator("#qc").get_by_role("alert")
    for text in ("3 of 520 sites", "cohort.vcf.gz", "Lift the file over to GRCh37.", "wrong_build"):
        expect(box).to_contain_text(text)
    expect(opened.page.locator("#options")).to_be_hidden()


def test_failed_job_shows_its_error(opened: Opened) -> None:
    opened.fake.job_error = {"code": "too_slow", "detail": "it took more than 3600 s", "hint": "send fewer samples"}
    opened.start()
    expect(state(opened.page)).to_have_text("Failed")
    expect(opened.page.locator("#job")).to_contain_text("It took more than 3600 s.")
    expect(opened.page.locator("#job")).to_contain_text("too_slow")
    expect(opened.page.locator("#job a")).to_have_count(0)


def test_unknown_job_is_shown(opened: Opened) -> None:
    opened.page.goto(f"{opened.url}/#job/0123456789abcdef")
    expect(opened.page.locator("#job")).to_contain_text("There is no such job")
    opened.page.get_by_role("link", name="New imputation").click()
    expect(opened.page.get_by_role("heading", name="Genotype imputation")).to_be_focused()


def test_options_are_checked_and_sent(opened: Opened) -> None:
    page = opened.page
    opened.check()
    page.get_by_label("Region").fill("twenty 1000")
    page.get_by_label("Minimum DR2").fill("3")
    page.get_by_role("button", name="Start imputation").click()
    expect(page.locator("#region-error")).to_contain_text("CHROM:FROM-TO")
    expect(page.locator("#min-dr2-error")).to_have_text("Enter a number from 0 to 1.")
    expect(page.get_by_label("Region")).to_be_focused()
    page.get_by_label("Region").fill("20:1000000-1500000")
    page.get_by_label("Minimum DR2").fill("0.3")
    page.get_by_label("BCF", exact=True).check()
    page.get_by_label("HDS, dosage of each haplotype").uncheck()
    page.get_by_role("button", name="Start imputation").click()
    expect(page.locator("#job")).to_contain_text("cohort.vcf.gz")
    (job,) = opened.fake.jobs.values()
    assert job.options == {
        "region": "20:1000000-1500000",
        "format": "bcf",
        "fields": ["GT", "DS", "GP"],
        "min_dr2": 0.3,
        "model": None,
    }


def test_chosen_chain_file_is_used_for_check_and_job(opened: Opened) -> None:
    page = opened.page
    expect(page.locator("#chain-choice")).to_be_hidden()
    opened.fake.chains = ["hg19ToHg38", "hs1ToHg38"]
    opened.reload()
    opened.check()
    page.get_by_label("Genome build").select_option("hg19ToHg38")
    expect(page.locator("#qc .remarks")).to_contain_text("520 sites were lifted over")
    expect(page.locator("#qc .remarks")).to_contain_text("12 at positions that the chain file does not cover")
    page.get_by_role("button", name="Start imputation").click()
    expect(page.locator("#job")).to_contain_text("cohort.vcf.gz")
    assert opened.fake.lifted_by == [None, "hg19ToHg38", "hg19ToHg38"]


def test_chosen_model_of_several_is_used_for_check_and_job(opened: Opened) -> None:
    page = opened.page
    opened.fake.models = [
        dict(MODEL),
        {**MODEL, "alias": "par2", "regions": [{"chrom": "X", "from": 155000000, "to": 155270000}]},
    ]
    opened.reload()
    opened.check()
    page.locator("#new").get_by_label("Model", exact=True).select_option("par2")
    expect(page.locator("#region-hint")).to_contain_text("X:155000000-155270000")
    expect(page.locator("#options")).to_be_visible()
    assert opened.fake.checked_for == ["champion", "par2"]
    assert opened.fake.files == 1
    page.get_by_role("button", name="Start imputation").click()
    expect(page.locator("#job")).to_contain_text("cohort.vcf.gz")
    assert [job.options["model"] for job in opened.fake.jobs.values()] == ["par2"]


def test_checked_file_is_uploaded_once(opened: Opened) -> None:
    opened.start()
    expect(state(opened.page)).to_have_text("Done")
    assert (opened.fake.files, opened.fake.kept) == (1, {})


def test_expired_upload_is_sent_again(opened: Opened) -> None:
    opened.check()
    opened.fake.kept.clear()
    opened.page.get_by_role("button", name="Start imputation").click()
    expect(state(opened.page)).to_have_text("Done")
    assert opened.fake.files == 2


def test_reload_after_the_upload_expired_asks_for_the_file(opened: Opened) -> None:
    page = opened.page
    opened.check()
    opened.fake.kept.clear()
    page.reload()
    alert = page.locator("#qc").get_by_role("alert")
    expect(alert).to_contain_text("The checked file has expired")
    expect(alert.get_by_role("heading")).to_be_focused()
    assert page.url.endswith("#new")
    opened.check()


def test_another_file_replaces_the_checked_one(opened: Opened) -> None:
    opened.check()
    opened.page.locator("#file").set_input_files({**FILE, "name": "other.vcf.gz"})
    expect(opened.page.locator("#chosen")).to_contain_text("other.vcf.gz")
    expect(opened.page.locator("#options")).to_be_visible()
    assert [name for name, _ in opened.fake.kept.values()] == ["other.vcf.gz"]


def test_frequencies_are_drawn_with_differing_sites_marked(opened: Opened) -> None:
    page = opened.page
    opened.check()
    figure = page.locator("#qc figure", has_text="Allele frequencies")
    expect(figure).to_contain_text("At 3 of 495 sites the frequencies differ clearly")
    expect(figure.locator("circle.point")).to_have_count(101)
    expect(figure.locator("circle.marked")).to_have_count(3)
    expect(page.get_by_role("img", name=re.compile("Allele frequencies.*correlation is 0.983"))).to_be_visible()
    expect(page.locator(".remarks")).to_contain_text("2 sites have the frequency of the other allele")
    marked = figure.locator("circle.marked").first
    line = figure.locator("line.axis").first
    box = [float(line.get_attribute(name) or 0) for name in ("x1", "x2", "y1", "y2")]
    left, right = sorted(box[:2])
    assert (float(marked.get_attribute("cx") or 0) - left) / (right - left) == pytest.approx(0.1217, abs=0.02)
    figure.locator("summary").click()
    expect(figure.get_by_role("table")).to_contain_text("20:1200345")


def test_file_name_with_markup_is_shown_as_text(opened: Opened) -> None:
    name = "<img src=x onerror=document.title='owned'>.vcf"
    opened.check({**FILE, "name": name})
    expect(opened.page.locator("#chosen")).to_contain_text(name)
    opened.page.get_by_role("button", name="Start imputation").click()
    expect(state(opened.page)).to_have_text("Done")
    expect(opened.page.locator("#job h1")).to_have_text(name)
    assert opened.page.locator("main img").count() == 0


def test_several_dropped_files_are_refused(opened: Opened) -> None:
    zone = "const t = new DataTransfer(); for (const n of ['a', 'b']) t.items.add(new File(['x'], n + '.vcf'));"
    expect(opened.page.locator("#file")).to_be_enabled()
    opened.page.evaluate(zone + "window.dispatchEvent(new DragEvent('drop', {dataTransfer: t, cancelable: true}))")
    expect(opened.page.locator("#qc")).to_contain_text("Only one file can be checked at a time.")


def test_dropped_file_is_checked(opened: Opened) -> None:
    drop = "const t = new DataTransfer(); t.items.add(new File(['x'], 'dropped.vcf'));"
    expect(opened.page.locator("#file")).to_be_enabled()
    opened.page.evaluate(drop + "window.dispatchEvent(new DragEvent('drop', {dataTransfer: t, cancelable: true}))")
    expect(opened.page.locator("#options")).to_be_visible()
    expect(opened.page.locator("#chosen")).to_contain_text("dropped.vcf")


def test_job_is_deleted_after_confirmation_by_keyboard(opened: Opened) -> None:
    page = opened.page
    opened.start()
    expect(state(page)).to_have_text("Done")
    page.get_by_role("button", name="Delete this job").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Delete “cohort.vcf.gz”?")).to_be_visible()
    expect(page.get_by_role("button", name="Keep it")).to_be_focused()
    page.keyboard.press("Escape")
    assert len(opened.fake.jobs) == 1
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#job-list-note")).to_have_text("No jobs yet.")
    expect(page.get_by_role("heading", name="Genotype imputation")).to_be_focused()
    assert opened.fake.jobs == {}


def test_figures_give_their_numbers_to_screen_readers(opened: Opened) -> None:
    page = opened.page
    opened.start()
    expect(state(page)).to_have_text("Done")
    expect(page.get_by_role("img", name=re.compile("Quality by allele frequency.*0.93 at MAF 5.50 %"))).to_be_visible()
    figure = page.locator("figure", has_text="Quality by allele frequency")
    expect(figure.locator("rect.bar")).to_have_count(4)
    figure.locator("summary").click()
    expect(figure.get_by_role("table", name="Mean DR2 by MAF").get_by_role("row")).to_have_count(5)


def test_bar_heights_are_proportional_to_values(opened: Opened) -> None:
    page = opened.page
    opened.start()
    expect(state(page)).to_have_text("Done")
    bars = page.locator("figure", has_text="Quality by allele frequency").locator("rect.bar")
    expect(bars).to_have_count(4)
    heights = [float(bars.nth(i).get_attribute("height") or 0) for i in range(4)]
    assert [height / heights[3] for height in heights] == pytest.approx([v / 0.93 for v in (0.31, 0.52, 0.71, 0.93)])


def test_progress_is_announced_in_steps_and_queue_position_shown(opened: Opened) -> None:
    page = opened.page
    opened.fake.queued_s, opened.fake.running_s = 1.0, 2.5
    page.evaluate(
        "window.told = []; new MutationObserver(() => told.push(announcements.textContent))"
        ".observe(document.getElementById('announcements'), {childList: true})"
    )
    opened.start()
    expect(page.locator("#job-progress")).to_have_text("Number 2 in the queue")
    expect(page.locator("#job-progress")).to_contain_text("of 24,990 sites")
    expect(state(page)).to_have_text("Done")
    told = page.evaluate("told")
    assert told[-1] == "cohort.vcf.gz: Done"
    assert 2 <= sum("% done" in text for text in told) <= 4


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_a_phone_without_overflow(opened: Opened, scheme: Any) -> None:
    page = opened.page
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 360, "height": 740})
    assert overflow(page) == 0
    opened.check({**FILE, "name": f"{'a_very_long_name_without_any_break' * 4}.vcf.gz"})
    page.locator("summary", has_text="Repaired and excluded").click()
    assert overflow(page) == 0
    page.get_by_role("button", name="Start imputation").click()
    expect(state(page)).to_have_text("Done")
    page.locator("summary", has_text="About this job").click()
    assert overflow(page) == 0
    button, card = (page.locator(place).bounding_box() for place in ("#job-list button", "#job-list"))
    assert button is not None
    assert card is not None
    assert button["x"] + button["width"] <= card["x"] + card["width"]  # however long the name beside it is


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_sufficient_contrast(opened: Opened, scheme: Any) -> None:
    """Contrast of 4.5 to 1 at least (WCAG AA) of all text that is seen, against the nearest ground behind it."""
    page = opened.page
    page.emulate_media(color_scheme=scheme)
    opened.check()
    assert page.evaluate(FAINT_TEXT) == []
    opened.fake.job_error = {"code": "too_slow", "detail": "it took too long", "hint": "send fewer samples"}
    page.get_by_role("button", name="Start imputation").click()
    expect(state(page)).to_have_text("Failed")
    assert page.evaluate(FAINT_TEXT) == []
    opened.fake.job_error = None
    page.reload()
    expect(state(page)).to_have_text("Done")
    expect(page.locator("svg")).to_have_count(5)
    assert page.evaluate(FAINT_TEXT) == []


FAINT_TEXT = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = numbers(colour).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if ((numbers(colour)[3] ?? 1) > 0) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const faint = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    const disabled = element.matches(':disabled') || element.querySelector(':scope > :disabled');
    if (!own || disabled || !element.checkVisibility() || element.closest('.spoken')) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(element.namespaceURI.includes('svg') ? style.fill : style.color), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5 || Number(style.opacity) < 1) faint.push([element.textContent.slice(0, 40), ratio]);
  }
  return faint;
}"""


def test_job_list_shows_jobs_of_another_tab(opened: Opened) -> None:
    page = opened.page
    opened.start()
    expect(state(page)).to_have_text("Done")
    other = page.context.new_page()
    other.goto(opened.url)
    expect(other.locator("#job-list .badge")).to_have_text("Done")
    other.locator("#job-list a").click()
    expect(other.locator("#job h1")).to_have_text("cohort.vcf.gz")
    assert other.locator("#job-list a").get_attribute("aria-current") == "page"
    other.close()


def test_job_list_shows_older_jobs_on_request(opened: Opened) -> None:
    fake, page = opened.fake, opened.page
    fake.page = 2
    for number in range(5):
        job = FakeJob(f"{number}.vcf", 9, {})
        fake.jobs[job.id] = job
    page.reload()
    names, more = page.locator("#job-list .filename"), page.locator("#job-list-more")
    expect(names).to_have_text(["4.vcf", "3.vcf"])
    more.click()
    expect(names).to_have_text(["4.vcf", "3.vcf", "2.vcf", "1.vcf"])
    more.click()
    expect(names).to_have_count(5)
    expect(more).to_be_hidden()


def test_requests_for_a_job_become_less_frequent(opened: Opened) -> None:
    page = opened.page
    opened.fake.queued_s = 60
    asked: list[float] = []
    page.on(
        "request", lambda request: asked.append(time.monotonic()) if re.search(r"/jobs/\w+$", request.url) else None
    )
    opened.start()
    expect(state(page)).to_have_text("Queued")
    page.wait_for_timeout(5000)
    gaps = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert len(asked) < 9
    assert gaps[-1] > 2 * gaps[0]
