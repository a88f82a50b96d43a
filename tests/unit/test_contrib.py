"""The conda recipe and the Nextflow modules: they parse, agree with each other, and use options that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from vcfbert import __version__
from vcfbert.cli.app import app

ROOT = Path(__file__).parents[2]
MODULES = ROOT / "contrib" / "nextflow" / "modules" / "vcfbert"
COMMANDS = {"panelbuild": ("panel", "build"), "fit": ("fit",), "impute": ("impute",)}
BLOCKS = ("input", "output", "when", "script", "stub")


def module_text(name: str) -> str:
    return (MODULES / name / "main.nf").read_text()


def block(name: str, label: str) -> str:
    """The lines between a process's label and the next one."""
    after = module_text(name).split(f"    {label}:\n", 1)[1]
    return re.split(r"^    (?:output|when|script|stub):\n", after, maxsplit=1, flags=re.MULTILINE)[0]


def options(words: tuple[str, ...]) -> set[str]:
    """Every option of a command of vcfbert."""
    command: Any = typer.main.get_command(app)
    for word in words:
        command = command.commands[word]
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("name", COMMANDS)
def test_module_has_every_block_in_order(name: str) -> None:
    text = module_text(name)
    places = [text.index(f"\n    {label}:\n") for label in BLOCKS]
    assert text.startswith(f"process VCFBERT_{name.upper()} {{\n")
    assert places == sorted(places)


@pytest.mark.parametrize("name", COMMANDS)
def test_module_brackets_are_balanced(name: str) -> None:
    for path in (MODULES / name / "main.nf", MODULES / name / "tests" / "main.nf.test"):
        text = path.read_text()
        assert text.count('"""') % 2 == 0
        assert all(text.count(left) == text.count(right) for left, right in ("{}", "[]", "()"))


@pytest.mark.parametrize("name", COMMANDS)
def test_module_command_uses_options_that_exist(name: str) -> None:
    command = " ".join(COMMANDS[name])
    script = block(name, "script")
    used = set(re.findall(r"--[a-z][a-z-]+", script.replace("vcfbert --version", "")))
    assert f"vcfbert {command} " in script
    assert {"--out"} < used <= options(COMMANDS[name])


@pytest.mark.parametrize("name", COMMANDS)
def test_module_description_names_its_inputs_and_outputs(name: str) -> None:
    described = yaml.safe_load((MODULES / name / "meta.yml").read_text())
    inputs = re.findall(r"(?:val|path)[( ](\w+)", block(name, "input"))
    outputs = re.findall(r"emit: (\w+)", block(name, "output"))
    assert described["name"] == f"vcfbert_{name}"
    assert [next(iter(entry)) for entry in described["input"]] == inputs
    assert [next(iter(entry)) for entry in described["output"]] == outputs


@pytest.mark.parametrize("name", COMMANDS)
def test_module_stub_writes_every_output(name: str) -> None:
    files = set(re.findall(r'path\("?([^",)]+?)"\)', block(name, "output")))
    stub = block(name, "stub")
    assert files
    assert {file for file in files if file not in stub} == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_module_environment_has_this_version(name: str) -> None:
    environment = yaml.safe_load((MODULES / name / "environment.yml").read_text())
    assert {"pip": [f"vcfbert[faiss-cpu]=={__version__}"]} in environment["dependencies"]


def test_conda_recipe_has_the_ranges_of_pyproject() -> None:
    text = (ROOT / "contrib" / "conda" / "recipe" / "meta.yaml").read_text()
    version = re.search(r'set version = "([^"]+)"', text)
    recipe = yaml.safe_load(re.sub(r"{{ (\w+) }}", r"\1", re.sub(r"{%.*%}", "", text)))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["service"]]
    ranges = {re.sub(r"^([\w.-]+)(\[.*\])?", "", requirement) for requirement in declared}
    assert version is not None
    assert version[1] == __version__
    assert len(recipe["requirements"]["run"]) == len(declared) + 2  # Python, and FAISS from its extra
    assert ranges <= {requirement.partition(" ")[2] for requirement in recipe["requirements"]["run"]}


def test_citation_has_this_version() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__
