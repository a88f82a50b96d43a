from __future__ import annotations

import gzip
import hashlib
import random
import re
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pysam
import pytest

import vcfbert.datasets.http_download
from vcfbert.datasets.download import MANIFEST, Fetched, fetch_1kg
from vcfbert.errors import InputError, ResourceError, VcfbertError

NAME = "1kGP_high_coverage_Illumina.chr20.filtered.SNV_INDEL_SV_phased_panel.vcf.gz"
MAP = b"pos\tchr\tcM\n1\t20\t0\n"
N_RECORDS = 4000  # at 1000, 1100, ...; every 500th a structural variant


def records() -> list[bytes]:
    rng = random.Random(3)
    lines = []
    for i in range(N_RECORDS):
        alt = "<DEL>" if i % 500 == 250 else "C"
        calls = "\t".join(rng.choice(("0|0", "0|1", "1|0", "1|1")) for _ in range(150))
        lines.append(f"chr20\t{1000 + 100 * i}\trs{i}\tA\t{alt}\t.\tPASS\tAF=0.5\tGT\t{calls}\n".encode())
    return lines


class Site:
    """A server of ``files`` (path -> bytes) that supports ranges and can be set to misbehave."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cuts: dict[str, list[int]] = {}  # path -> bytes after which the next connections are cut
        self.errors: list[int] = []  # statuses of the next answers
        self.fails_after_cut = False  # whether all answers after a cut connection are errors
        self.ranges = True
        self.validators = True
        self.sent: Counter[str] = Counter()  # bytes, by path
        self.requests: list[tuple[str, str | None]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.lstrip("/")
        asked = request.headers.get("Range")
        self.requests.append((path, asked))
        if self.errors:
            request.send_error(self.errors.pop(0))
            return
        if path not in self.files:
            request.send_error(404)
            return
        body = self.files[path]
        etag = f'"{hashlib.md5(body).hexdigest()}"'
        unchanged = request.headers.get("If-Range", etag) == etag
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", asked or "") if self.ranges and unchanged else None
        if match:
            first, last = int(match[1]), min(int(match[2] or len(body)), len(body) - 1)
            if first >= len(body):
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{len(body)}")
                request.end_headers()
                return
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {first}-{last}/{len(body)}")
            body = body[first : last + 1]
        else:
            request.send_response(200)
        if self.validators:
            request.send_header("ETag", etag)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        cuts = self.cuts.get(path, [])
        if cuts and self.fails_after_cut:
            self.errors = [503] * 100
        body = body[: cuts.pop(0) if cuts else len(body)]
        self.sent[path] += len(body)
        request.wfile.write(body)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The site's files, compressed and indexed by htslib."""
    head = "##fileformat=VCFv4.2\n##contig=<ID=chr20>\n##contig=<ID=chr21>\n"
    head += (
        '##INFO=<ID=AF,Number=A,Type=Float,Description="AF">\n##FORMAT=<ID=GT,Number=1,Type=String,Description="G">\n'
    )
    columns = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *(f"S{i}" for i in range(150))]
    path = tmp_path_factory.mktemp("site") / NAME
    with pysam.BGZFile(str(path), "wb") as file:
        file.write(head.encode() + "\t".join(columns).encode() + b"\n" + b"".join(records()))
    pysam.tabix_index(str(path), preset="vcf")
    found = {NAME: path.read_bytes(), f"{NAME}.tbi": Path(f"{path}.tbi").read_bytes()}
    manifest = "".join(f"{name} {hashlib.md5(body).hexdigest()}\n" for name, body in found.items())
    return {**found, MANIFEST: manifest.encode(), "chr20.b38.gmap.gz": gzip.compress(MAP)}


@pytest.fixture
def site(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(vcfbert.datasets.http_download.time, "sleep", lambda _: None)
    site = Site()
    site.files = dict(files)
    thread = Thread(target=site.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield site
    site.server.shutdown()
    site.server.server_close()
    thread.join()


def fetch(site: Site, out: Path, region: str | None = None, chrom: str = "20") -> Fetched:
    return fetch_1kg(chrom, region, out, base_url=site.url, map_url=site.url)


def positions(fetched: Fetched) -> list[int]:
    with pysam.VariantFile(str(fetched.panel)) as file:
        return [record.pos for record in file]


def expected_positions(first: int, last: int) -> list[int]:
    every = [1000 + 100 * i for i in range(N_RECORDS) if i % 500 != 250]
    return [pos for pos in every if first <= pos <= last]


def test_whole_chromosome_excludes_structural_variants(site: Site, tmp_path: Path) -> None:
    fetched = fetch(site, tmp_path)
    assert (fetched.records, fetched.symbolic, fetched.checked) == (N_RECORDS - 8, 8, True)
    assert positions(fetched) == expected_positions(0, 1 << 30)
    assert gzip.decompress(fetched.genetic_map.read_bytes()) == MAP
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "1kg.chr20.vcf.gz",
        "1kg.chr20.vcf.gz.tbi",
        "chr20.b38.gmap.gz",
    ]
    with gzip.open(fetched.panel, "rb") as file:
        assert [line for line in file if not line.startswith(b"#")][7] == records()[7]


@pytest.mark.parametrize(
    ("first", "last"), [(200_000, 210_000), (200_050, 200_149), (1, 1000), (400_000, 900_000), (16_384, 32_768)]
)
def test_region_downloads_only_its_bytes(site: Site, tmp_path: Path, first: int, last: int) -> None:
    fetched = fetch(site, tmp_path, f"{first}-{last}", chrom="chr20")
    assert positions(fetched) == expected_positions(first, last)
    assert site.sent[NAME] < len(site.files[NAME])
    with pysam.TabixFile(str(fetched.panel)) as file:
        middle = expected_positions(first, last)[0]
        assert [row.split("\t")[1] for row in file.fetch("chr20", middle - 1, middle)] == [str(middle)]


def test_cut_connection_resumes_where_it_stopped(site: Site, tmp_path: Path) -> None:
    site.cuts[NAME] = [30_000]
    assert fetch(site, tmp_path).checked
    assert [asked for path, asked in site.requests if path == NAME] == ["bytes=0-", "bytes=30000-"]
    assert site.sent[NAME] == len(site.files[NAME])


def test_many_cuts_do_not_fail_while_bytes_arrive(site: Site, tmp_path: Path) -> None:
    site.cuts[NAME] = [10_000] * (vcfbert.datasets.http_download.MAX_FAILURES + 2)
    assert fetch(site, tmp_path).checked
    assert site.sent[NAME] == len(site.files[NAME])


def test_next_run_resumes_an_interrupted_download(site: Site, tmp_path: Path) -> None:
    site.cuts[NAME], site.fails_after_cut = [30_000], True
    with pytest.raises(VcfbertError) as caught:
        fetch(site, tmp_path)
    assert caught.value.code == "download_failed"
    assert not (tmp_path / "1kg.chr20.vcf.gz").exists()
    site.errors.clear()
    assert fetch(site, tmp_path).records == N_RECORDS - 8
    assert site.sent[NAME] == len(site.files[NAME])


def test_part_of_another_version_is_downloaded_again(site: Site, tmp_path: Path) -> None:
    new = site.files[NAME]
    site.files[NAME] = random.Random(1).randbytes(50_000)
    site.cuts[NAME], site.fails_after_cut = [30_000], True
    with pytest.raises(VcfbertError):
        fetch(site, tmp_path)
    site.errors.clear()
    site.files[NAME] = new
    assert fetch(site, tmp_path).records == N_RECORDS - 8


@pytest.mark.parametrize("region", [None, "300000-310000"])
def test_server_without_ranges_or_validators_gives_the_same_file(
    site: Site, tmp_path: Path, region: str | None
) -> None:
    site.ranges = site.validators = False
    site.cuts[NAME] = [30_000]
    fetched = fetch(site, tmp_path, region)
    assert positions(fetched) == (expected_positions(0, 1 << 30) if region is None else expected_positions(3e5, 3.1e5))


def test_temporary_server_errors_are_retried(site: Site, tmp_path: Path) -> None:
    site.errors = [503, 500, 429]
    assert fetch(site, tmp_path, "300000-310000").records == len(expected_positions(300_000, 310_000))


def test_persistent_server_errors_fail(site: Site, tmp_path: Path) -> None:
    site.errors = [503] * 100
    with pytest.raises(VcfbertError, match="503") as caught:
        fetch(site, tmp_path)
    assert caught.value.code == "download_failed"
    assert len(site.requests) == vcfbert.datasets.http_download.MAX_FAILURES


def test_wrong_checksum_fails(site: Site, tmp_path: Path) -> None:
    body = bytearray(site.files[NAME])
    body[50_000] ^= 1
    site.files[NAME] = bytes(body)
    with pytest.raises(VcfbertError) as caught:
        fetch(site, tmp_path)
    assert caught.value.code == "checksum_differs"
    assert [p.name for p in tmp_path.iterdir()] == ["chr20.b38.gmap.gz"]


def test_damaged_file_without_a_checksum_fails(site: Site, tmp_path: Path) -> None:
    del site.files[MANIFEST]
    assert not fetch(site, tmp_path / "good").checked
    body = bytearray(site.files[NAME])
    body[50_000] ^= 1
    site.files[NAME] = bytes(body)
    with pytest.raises(InputError) as caught:
        fetch(site, tmp_path / "bad")
    assert caught.value.code == "damaged_bgzf"
    assert not (tmp_path / "bad" / "1kg.chr20.vcf.gz").exists()


@pytest.mark.parametrize(
    ("chrom", "region", "code"),
    [
        ("X", None, "chromosome_unknown"),
        ("20", "21:1-2", "region_invalid"),
        ("20", "5-4", "region_invalid"),
        ("20", "60000000-61000000", "region_empty"),
        ("21", None, "download_refused"),
    ],
)
def test_invalid_chromosome_or_region_is_refused(
    site: Site, tmp_path: Path, chrom: str, region: str | None, code: str
) -> None:
    with pytest.raises(InputError) as caught:
        fetch(site, tmp_path, region, chrom)
    assert caught.value.code == code


@pytest.mark.usefixtures("full_files")
def test_full_disk_fails_with_disk_full(site: Site, tmp_path: Path) -> None:
    with pytest.raises(ResourceError) as caught:
        fetch(site, tmp_path)
    assert caught.value.code == "disk_full"
