"""The code that wrote an artifact: its git commit and the versions of packages."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vcfbert import __version__

_PACKAGES = ("torch", "numpy", "faiss-cpu", "lightning-fabric", "cyvcf2", "pysam", "safetensors")


def git_commit(folder: Path | None = None) -> str:
    """Commit of the checkout that holds this code, with '-dirty' if it has changes; 'unknown' outside git."""
    where = folder or Path(__file__).resolve().parent
    try:
        out = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"],
            cwd=where,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return out.stdout.strip()


def package_versions() -> dict[str, str]:
    """Versions of Python, vcfbert and those packages that affect results, as far as they are installed."""
    found = {"python": platform.python_version(), "vcfbert": __version__}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def provenance() -> dict[str, object]:
    """The section ``provenance`` of every manifest."""
    return {"git_commit": git_commit(), "packages": package_versions()}
