"""Uploads on disk and what they unpack to."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import pytest
from fastapi import UploadFile

from service.uploads.files import received, shown_name, stem, without_paths
from tests.helpers.service import settings
from tests.helpers.vcf_text import Record
from vcfbert.errors import InputError

RECORDS: list[Record] = [(pos, "A", "C", "0|1 1|1 0|0") for pos in range(10, 50)]
KINDS = ("t.vcf", "t.vcf.gz", "t.gzip.vcf.gz", "t.bcf")


def upload(content: bytes, name: str | None = "mine.vcf") -> UploadFile:
    return UploadFile(io.BytesIO(content), filename=name)


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
