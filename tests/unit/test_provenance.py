from __future__ import annotations

import json
import platform
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from vcfbert import __version__
from vcfbert.provenance import git_commit, package_versions, provenance

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
