"""pyproject.toml declares every package that the code imports."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("vcfbert", "service", "pipelines", "benchmarks", "tests")
# Scripts of ``benchmarks`` import each other by name.
OWN = {*FOLDERS, *(path.stem for path in (ROOT / "benchmarks").glob("*.py"))}


def canonical(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def declared_distributions() -> set[str]:
    """Canonical names of the base dependencies and of all extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return {canonical(re.split(r"[\[<>=~! ]", requirement)[0]) for group in groups for requirement in group}


def third_party_imports(folder: str) -> dict[str, str]:
    """Top-level modules of other packages that the folder imports, each with one of the importing files."""
    found = {}
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [str(node.module)]
            found |= {name.split(".")[0]: str(path.relative_to(ROOT)) for name in names}
    return {name: path for name, path in found.items() if name not in sys.stdlib_module_names | OWN}


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_imported_package_is_declared(folder: str) -> None:
    imported, declared, installed = third_party_imports(folder), declared_distributions(), packages_distributions()
    assert imported
    # Modules of an extra that is not installed cannot be mapped to a distribution.
    known = {name: {canonical(one) for one in installed[name]} for name in imported if name in installed}
    assert "numpy" in known or folder == "pipelines"
    assert {name: imported[name] for name, ours in known.items() if not ours & declared} == {}
