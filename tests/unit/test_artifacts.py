from __future__ import annotations

import hashlib
import json
import platform
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vcfbert import __version__
from vcfbert.artifacts import (
    MANIFEST,
    atomic_file,
    atomic_folder,
    git_commit,
    package_versions,
    provenance,
    read_manifest,
    sha256_file,
    sha256_json,
    write_json,
)
from vcfbert.errors import ArtifactError, InputError, ResourceError


def write(path: Path, text: str = "content") -> None:
    manifest: dict[str, object] = {"early": 1}
    with atomic_folder(path, kind="thing", version=3, manifest=manifest) as folder:
        (folder / "a.txt").write_text(text)
        (folder / "sub").mkdir()
        (folder / "sub/b.txt").write_text("b")
        manifest["late"] = 2


def refused(path: Path, *, kind: str = "thing", version: int = 3) -> str:
    with pytest.raises(ArtifactError) as caught:
        read_manifest(path, kind=kind, version=version)
    return caught.value.code


def test_atomic_folder_writes_files_and_manifest(tmp_path: Path) -> None:
    write(tmp_path / "deep/thing")
    manifest = read_manifest(tmp_path / "deep/thing", kind="thing", version=3)
    assert (manifest["early"], manifest["late"], manifest["format_version"]) == (1, 2, 3)
    assert manifest["files"] == {
        "a.txt": hashlib.sha256(b"content").hexdigest(),
        "sub/b.txt": hashlib.sha256(b"b").hexdigest(),
    }
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["thing"]
    assert (tmp_path / "deep/thing").stat().st_mode & 0o777 == 0o755


def test_atomic_folder_replaces_an_old_one(tmp_path: Path) -> None:
    write(tmp_path / "thing", "one")
    write(tmp_path / "thing", "two")
    assert (tmp_path / "thing/a.txt").read_text() == "two"
    assert len(list(tmp_path.iterdir())) == 1


def test_failed_write_keeps_the_old_folder_and_no_other_file(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_folder(tmp_path / "thing", kind="thing", version=3, manifest={}) as folder:
            (folder / "a.txt").write_text("half")
            raise ZeroDivisionError

    write(tmp_path / "thing", "one")
    with pytest.raises(ZeroDivisionError):
        fail()
    assert (tmp_path / "thing/a.txt").read_text() == "one"
    assert len(list(tmp_path.iterdir())) == 1


def test_read_manifest_reports_each_kind_of_damage(tmp_path: Path) -> None:
    path = tmp_path / "thing"
    assert refused(path) == "thing_missing"
    write(path)
    assert refused(path, version=4) == "thing_format"
    assert refused(path, kind="other") == "other_format"
    (path / "a.txt").write_text("Content")
    assert refused(path) == "thing_hash"
    assert read_manifest(path, kind="thing", version=3, verify=False)["early"] == 1
    (path / "a.txt").unlink()
    assert refused(path) == "thing_hash"
    (path / MANIFEST).write_text("{")
    assert refused(path) == "thing_damaged"
    (path / MANIFEST).write_text("[]")
    assert refused(path) == "thing_damaged"
    (path / MANIFEST).write_text(json.dumps({"kind": "thing", "format_version": 3}))
    assert refused(path) == "thing_damaged"
    (path / MANIFEST).unlink()
    assert refused(path) == "thing_unfinished"


def test_a_file_without_recorded_hash_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "thing")
    manifest = json.loads((tmp_path / "thing" / MANIFEST).read_text())
    (tmp_path / "thing" / MANIFEST).write_text(json.dumps({**manifest, "files": {}}))
    assert refused(tmp_path / "thing") == "thing_hash"
    write(tmp_path / "thing")
    (tmp_path / "thing/sub/.nfs000001").write_text("")  # a network file system's own
    (tmp_path / "thing" / f"{MANIFEST}.sig").write_text("")
    read_manifest(tmp_path / "thing", kind="thing", version=3)
    (tmp_path / "thing/sub/c.txt").write_text("")
    assert refused(tmp_path / "thing") == "thing_hash"


def test_atomic_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep/report.json"

    def fail() -> None:
        with atomic_file(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    write_json(path, {"b": 1, "a": 2})
    assert path.read_text() == '{\n "a": 2,\n "b": 1\n}\n'
    with pytest.raises(ZeroDivisionError):
        fail()
    assert json.loads(path.read_text()) == {"a": 2, "b": 1}
    assert [p.name for p in path.parent.iterdir()] == ["report.json"]


def test_unwritable_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for attempt in (lambda: write(tmp_path / "file/thing"), lambda: write_json(tmp_path / "file/report.json", {})):
        with pytest.raises(InputError) as caught:
            attempt()
        assert (caught.value.code, caught.value.exit_code) == ("output_not_writable", 2)
        assert "hint:" in str(caught.value)


def test_full_disk_raises_disk_full(tmp_path: Path, full_disk: Callable[[], None]) -> None:
    full_disk()
    for attempt in (lambda: write(tmp_path / "thing"), lambda: write_json(tmp_path / "report.json", {})):
        with pytest.raises(ResourceError, match="No space left") as caught:
            attempt()
        assert caught.value.code == "disk_full"
    assert list(tmp_path.iterdir()) == []


def test_sha256_json_is_independent_of_key_order() -> None:
    assert sha256_json({"a": 1, "b": [2]}) == sha256_json({"b": [2], "a": 1})
    assert sha256_json({"a": 1}) != sha256_json({"a": 2})


def test_sha256_file_equals_hashlib(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert sha256_file(tmp_path / "f") == hashlib.sha256(b"abc").hexdigest()


GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]


def test_git_commit_of_a_checkout(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        done = subprocess.run([*GIT, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-q", "-m", "first")
    git("tag", "v1")
    assert git_commit(tmp_path) == git("rev-parse", "HEAD")
    (tmp_path / "a").write_text("2")
    assert git_commit(tmp_path) == git("rev-parse", "HEAD") + "-dirty"


def test_git_commit_outside_a_checkout_or_without_git_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit(tmp_path) == "unknown"
    monkeypatch.setenv("PATH", "")
    assert git_commit(tmp_path) == "unknown"


def test_package_versions_lists_installed_packages() -> None:
    found = package_versions()
    assert found["python"] == platform.python_version()
    assert found["vcfbert"] == __version__
    assert found["numpy"] == np.__version__
    assert re.match(r"\d+\.\d+", found["torch"])


def test_provenance_is_serialisable_as_json() -> None:
    assert set(json.loads(json.dumps(provenance()))) == {"git_commit", "packages"}
