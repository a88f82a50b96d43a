"""The documentation names only what exists: commands, options, make targets, files, parameters and settings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer.main
import yaml

from service.settings import Settings
from vcfbert.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
HISTORY = ("docs/dev/LOG.md", "CHANGELOG.md")  # they name what existed at their time
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in (ROOT / "docs", ROOT / "data" / "demo", ROOT / "contrib", ROOT)
    for path in (folder.glob("*.md") if folder == ROOT else folder.rglob("*.md"))
)
CURRENT = [page for page in PAGES if page not in HISTORY]

# Settings that are read elsewhere than in service/settings.py.
OTHER_SETTINGS = {"VCFBERT_URL", "VCFBERT_KEY", "VCFBERT_STUDIES"}
# Parts of a shell line that start another command.
SEPARATORS = {"&&", "||", "|", ";"}


class Command(NamedTuple):
    """A ``vcfbert`` command of a page. ``words``: all after ``vcfbert``."""

    line: int
    words: tuple[str, ...]


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def shell_lines(text: str) -> Iterator[tuple[int, str]]:
    """Number and text of each command line in the ```sh blocks, continued lines joined."""
    inside, started, joined = False, 0, ""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("```"):
            inside = not inside and line.strip() == "```sh"
            continue
        if not inside:
            continue
        started = started if joined else number
        joined += line
        if joined.endswith("\\"):
            joined = joined[:-1] + " "
        else:
            yield started, joined
            joined = ""


def vcfbert_commands(line: str) -> Iterator[tuple[str, ...]]:
    """The words after ``vcfbert`` of each command in a shell line."""
    words: list[str] = []
    for token in [*shlex.split(line, comments=True), ";"]:
        if token not in SEPARATORS:
            words.append(token)
            continue
        if "vcfbert" in words and words[0] in ("vcfbert", "torchrun", "python"):
            yield tuple(words[words.index("vcfbert") + 1 :])
        words = []


def resolve(words: tuple[str, ...]) -> tuple[Any, list[str]]:
    """The command that ``words`` name, and what follows its name."""
    command, rest = typer.main.get_command(app), list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        name = rest[0]
        if name not in command.commands:
            if not getattr(command, "invoke_without_command", False):
                raise AssertionError(f"no command {name!r} in `vcfbert {' '.join(words)}`")
            break
        command = command.commands[name]
        rest = rest[1:]
    return command, rest


SHELL = [
    pytest.param(words, id=f"{page}:{line}")
    for page in CURRENT
    for line, text in shell_lines(text_of(page))
    for words in vcfbert_commands(text)
]


@pytest.mark.parametrize("words", SHELL)
def test_command_of_a_code_block_parses(words: tuple[str, ...]) -> None:
    command, rest = resolve(words)
    assert not hasattr(command, "commands") or command.invoke_without_command
    command.make_context("vcfbert", [word for word in rest if word != "..."])  # raises for an unknown option


@pytest.mark.parametrize("page", CURRENT)
def test_command_within_a_sentence_exists(page: str) -> None:
    """Such a command may lack required options; its words and options must exist."""
    for text in re.findall(r"`(vcfbert [^`]+)`", text_of(page)):
        for alternative in expand(text):
            command, rest = resolve(alternative)
            options = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
            unknown = {word for word in rest if word.startswith("-")} - options - {"--help"}
            assert not unknown, f"{page}: `{text}`"


def expand(text: str) -> Iterator[tuple[str, ...]]:
    """The words of each command that ``a | b`` in ``text`` stands for; none for a placeholder such as COMMAND."""
    words = [word for word in text.split()[1:] if word != "..."]
    if words and words[0].isupper():
        return
    if "|" in words:
        prefix, names = words[: words.index("|") - 1], [word for word in words[words.index("|") - 1 :] if word != "|"]
        yield from ((*prefix, name) for name in names)
    else:
        yield tuple(words)


@pytest.mark.parametrize("page", CURRENT)
def test_make_target_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), flags=re.MULTILINE))
    text = text_of(page)
    named = re.findall(r"`make ([a-z-]+)", text)
    named += [match for _, line in shell_lines(text) for match in re.findall(r"^make ([a-z-]+)", line)]
    assert set(named) <= targets


@pytest.mark.parametrize("page", CURRENT)
def test_path_in_the_repository_exists(page: str) -> None:
    """Paths in backticks, files that python runs, and links of pages outside of docs/ (MkDocs checks the others)."""
    text = text_of(page)
    folders = r"(?:\.ci|\.github|benchmarks|contrib|data/demo|docs|pipelines|service|studies|tests|vcfbert)"
    named = set(re.findall(rf"`({folders}/[\w./-]*)`", text))
    named |= {match.replace(".", "/") + ".py" for match in re.findall(r"python -m (benchmarks\.\w+)", text)}
    named |= set(re.findall(r"python (benchmarks/\w+\.py)", text))
    missing = {path for path in named if not (ROOT / path).exists()}
    if not page.startswith("docs/"):
        links = {link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link}
        missing |= {link for link in links if not ((ROOT / page).parent / link).exists()}
    assert not missing


@pytest.mark.parametrize("page", CURRENT)
def test_parameter_exists(page: str) -> None:
    profile = yaml.safe_load(text_of("vcfbert/profiles/cpu.yaml"))
    text = text_of(page)
    sections = "|".join(profile)
    named = set(re.findall(rf"(?:`|-S |--set )((?:{sections})\.\w+)(?=[`=:.])", text))
    files = {name for name in named if name.endswith((".py", ".md"))}
    unknown = {name for name in named - files if name.split(".")[1] not in profile[name.split(".")[0]]}
    assert not unknown


@pytest.mark.parametrize("page", CURRENT)
def test_setting_exists(page: str) -> None:
    settings = {f"VCFBERT_{name.upper()}" for name in Settings.model_fields} | OTHER_SETTINGS
    assert set(re.findall(r"VCFBERT_[A-Z_]*[A-Z]", text_of(page))) <= settings


def test_site_has_contributing_and_changelog() -> None:
    navigation = text_of("mkdocs.yml")
    assert "dev/contributing.md" in navigation
    assert "dev/changelog.md" in navigation


@pytest.mark.parametrize("name", ["cpu", "gpu", "original"])
def test_gpu_page_gives_the_profile(name: str) -> None:
    profile = yaml.safe_load(text_of(f"vcfbert/profiles/{name}.yaml"))
    row = next(line for line in text_of("docs/how-to/gpu.md").splitlines() if line.startswith(f"| `{name}`"))
    model, train = profile["model"], profile["train"]
    assert [cell.strip() for cell in row.strip("|").split("|")][1:] == [
        str(model["dims"]),
        str(model["layers"]),
        str(model["heads"]),
        f"{profile['encode']['window']:,}",
        f"{train['batch_size']} x {train['accumulate']}",
        str(train["epochs"]),
    ]
