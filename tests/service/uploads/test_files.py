"""Uploads on disk and what they unpack to."""

from __future__ import annotations

import gzip
import io
import os
import time
import zipfile
from pathlib import Path

import pytest
from fastapi import UploadFile

from service.uploads.files import Counted, check_upload, received, shown_name, stem, without_paths
from tests.helpers.service import settings
from tests.helpers.vcf_text import Record, vcf_text, write_vcf
from vcfbert.errors import InputError

RECORDS: list[Record] = [(pos, "A", "C", "0|1 1|1 0|0") for pos in range(10, 50)]
KINDS = ("t.vcf", "t.vcf.gz", "t.gzip.vcf.gz", "t.bcf")


def upload(content: bytes, name: str | None = "mine.vcf") -> UploadFile:
    return UploadFile(io.BytesIO(content), filename=name)


def refused(path: Path, **limits: int) -> str:
    with pytest.raises(InputError) as caught:
        check_upload(path, settings(path.parent, **limits))
    assert caught.value.hint
    assert str(path) in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize("name", KINDS)
def test_samples_and_sites_are_counted_in_every_format(tmp_path: Path, name: str) -> None:
    path = write_vcf(tmp_path / name, vcf_text(RECORDS))
    assert check_upload(path, settings(tmp_path, max_samples=3, max_sites=40)) == Counted(3, 40)
    assert refused(path, max_samples=2) == "too_many_samples"
    assert refused(path, max_sites=39) == "too_many_sites"


def test_zip_upload_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "target"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(".zgroup", "{}")
    assert refused(path) == "not_vcf"


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_counts_do_not_depend_on_chunk_boundaries(tmp_path: Path, chunk: int) -> None:
    path = write_vcf(tmp_path / "t.vcf.gz", vcf_text(RECORDS))
    assert check_upload(path, settings(tmp_path), chunk_bytes=chunk) == Counted(3, 40)


@pytest.mark.parametrize("members", [1, 40])
def test_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, members: int) -> None:
    """Also where many small gzip members stand in a row; a tenth of a percent of its size has to be read."""
    text = vcf_text(RECORDS).encode()
    path = tmp_path / "bomb.vcf.gz"
    path.write_bytes(gzip.compress(text) + gzip.compress(b"x" * (200_000_000 // members)) * members)
    assert path.stat().st_size < 1_000_000
    started = time.perf_counter()
    assert refused(path, max_unpacked_mb=3) == "too_large_unpacked"
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize("where", ["header", "record"])
@pytest.mark.parametrize("name", KINDS)
def test_oversized_header_or_record_is_refused(tmp_path: Path, where: str, name: str) -> None:
    long = [(9, "A" * 60_000, "C", "0|1 1|1 0|0")] if where == "record" else []
    text = vcf_text([*long, *RECORDS])
    if where == "header":
        text = text.replace("##contig", f"##long={'x' * 60_000}\n##contig", 1)
    path = write_vcf(tmp_path / name, text)
    with pytest.raises(InputError) as caught:
        check_upload(path, settings(tmp_path), chunk_bytes=1000, max_piece=50_000)
    assert caught.value.code == "too_large_unpacked"


def test_oversized_uncompressed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.vcf"
    path.write_bytes(vcf_text(RECORDS).encode() + b"\n" * 1_000_000)
    assert refused(path, max_unpacked_mb=1) == "too_large_unpacked"


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\x1f\x8b", b"BCF\x02\x02", b"BCF\x02\x02\xff\xff", b"##fileformat=VCF"]
)
def test_incomplete_or_foreign_file_passes_the_count(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t"
    path.write_bytes(content)
    assert check_upload(path, settings(tmp_path)) == Counted(0, 0)


def test_damaged_file_passes_the_count(tmp_path: Path) -> None:
    path = write_vcf(tmp_path / "t.vcf.gz", vcf_text(RECORDS))
    good = path.read_bytes()
    for middle in range(0, len(good), 7):
        path.write_bytes(good[:middle] + bytes(byte ^ 0x55 for byte in good[middle : middle + 5]) + good[middle + 5 :])
        assert check_upload(path, settings(tmp_path)).n_sites <= len(RECORDS)
        path.write_bytes(good[:middle])
        assert check_upload(path, settings(tmp_path)).n_sites <= len(RECORDS)


def test_received_upload_has_its_own_temporary_folder(tmp_path: Path) -> None:
    ours = settings(tmp_path)
    with received(upload(b"text", "../../etc/passwd"), ours) as found:
        assert found.target.read_bytes() == b"text"
        assert found.target.is_relative_to(ours.data)
        assert found.name == "passwd"
        assert "passwd" not in str(found.target)
    assert list((ours.data / "uploads").iterdir()) == []


def test_errors_show_the_callers_file_name_and_no_path(tmp_path: Path) -> None:
    def fail() -> None:
        with received(upload(b"", "mine.vcf"), settings(tmp_path)) as found:
            what, where = f"{found.target} is bad", f"{found.target}, record 20:5"
            raise InputError("not_vcf", what, where=where, hint=f"see {found.folder / 'imputed.vcf.gz'}")

    with pytest.raises(InputError) as caught:
        fail()
    error = caught.value
    assert (error.what, error.where, error.hint) == ("mine.vcf is bad", "mine.vcf, record 20:5", None)
    assert list((tmp_path / "data" / "uploads").iterdir()) == []


def test_stale_upload_folders_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "uploads"
    old, new = folder / "old", folder / "new"
    for left in (old, new):
        left.mkdir(parents=True)
        (left / "target").write_bytes(b"x")
    os.utime(old, (time.time() - 90_000,) * 2)
    with received(upload(b""), settings(tmp_path)):
        pass
    assert list(folder.iterdir()) == [new]


def test_shown_name_is_cleaned() -> None:
    assert shown_name("C:\\data\\mine.vcf") == "mine.vcf"
    assert shown_name("a\x07b\r\nc\x1b[31m\u202e.vcf") == "abc[31m.vcf"
    assert len(shown_name("x" * 5000)) == 200
    assert [stem(name) for name in ("a.vcf.gz", "a.BCF", "a.vcf.bgz", "a", ".vcf")] == ["a", "a", "a", "a", "target"]


def test_paths_are_hidden_in_relative_and_absolute_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("data/uploads/x")
    for target in (folder / "target", tmp_path / folder / "target"):
        text = without_paths(f"{target.absolute()} and data/uploads/x/target", folder / "target", "mine.vcf", folder)
        assert text == "mine.vcf and mine.vcf"
        assert without_paths(f"{target.parent}/other", folder / "target", "mine.vcf", folder) is None
    assert without_paths(None, folder / "target", "mine.vcf", folder) is None
