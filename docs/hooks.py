"""Adds pages when MkDocs builds the site: command line, params.yaml, error codes, and two files of the root folder."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("vcfbert", "service")
ROOT_PAGES = {"dev/contributing.md": "CONTRIBUTING.md", "dev/changelog.md": "CHANGELOG.md"}
ERRORS = ("InputError", "ArtifactError", "ResourceError", "DiskFullError", "MissingExtraError", "VcfbertError")


def on_files(files: Files, config: Any) -> Files:
    """Adds the generated pages to those of the docs folder."""
    pages = {
        "reference/cli.md": cli_page(),
        "reference/params.md": params_page(),
        "reference/errors.md": errors_page(),
        **{page: (ROOT / source).read_text(encoding="utf-8") for page, source in ROOT_PAGES.items()},
    }
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def cli_page() -> str:
    """Every command of the Typer app with its help, arguments and options."""
    from vcfbert.cli.app import app

    parts = ["# Command line", "This page is generated from the commands. `vcfbert COMMAND --help` prints the same."]
    for path, command in commands(typer.main.get_command(app), ("vcfbert",)):
        parts += [f"## `{' '.join(path)}`", *help_parts(command.help or "")]
        rows = [row for row in map(option_row, command.params) if row]
        if rows:
            parts.append("\n".join(["| option | default | meaning |", "| --- | --- | --- |", *rows]))
    return "\n\n".join(parts) + "\n"


def commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The command and all below it, each with its words."""
    yield path, command
    for name, child in sorted(getattr(command, "commands", {}).items()):
        yield from commands(child, (*path, name))


def help_parts(text: str) -> Iterator[str]:
    """The paragraphs of a command's help, with examples as blocks of code."""
    for part in text.strip().split("\n\n"):
        prose, separator, example = part.rpartition("Example: ")
        if separator:
            yield prose.strip()
            yield f"```sh\n{example}\n```"
        elif re.match(r"(?:\w+=\S+ )?vcfbert ", part):
            yield f"```sh\n{part}\n```"
        elif part not in ("**Example**", "**Examples**"):
            yield part


def option_row(option: Any) -> str:
    """One table row of an option or argument; empty for --help."""
    if option.name == "help":
        return ""
    is_option = option.param_type_name == "option"
    names = ", ".join([*option.opts, *option.secondary_opts]) if is_option else option.name.upper()
    default = "required" if option.required else option.default
    hidden = default in (None, False, "", (), []) or callable(default) or "Sentinel" in repr(default)
    return f"| `{names}` | {'' if hidden else cell(str(default))} | {cell(getattr(option, 'help', None) or '')} |"


def cell(text: str) -> str:
    """Text that stays within one cell of a Markdown table."""
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;")


def params_page() -> str:
    """The parameters of the default profile, a table for each section, from its comments."""
    parts = [
        "# params.yaml",
        "`params.yaml` holds one section per stage. The defaults are those of the profile `cpu`. "
        "`vcfbert config apply gpu` or `vcfbert config apply original` writes another profile. "
        "`vcfbert fit -S train.epochs=10` sets one parameter of a fit.",
    ]
    for line in (ROOT / "vcfbert" / "profiles" / "cpu.yaml").read_text(encoding="utf-8").splitlines():
        if section := re.fullmatch(r"(\w+):", line):
            parts += [f"## {section[1]}", "| parameter | default | meaning |\n| --- | --- | --- |"]
        elif parameter := re.fullmatch(r"  (\w+): (.+?)\s+# (.+)", line):
            name, value, meaning = parameter.groups()
            parts[-1] += f"\n| `{name}` | `{value}` | {cell(meaning)} |"
        elif line.strip() and not line.startswith("#"):
            raise ValueError(f"cpu.yaml: {line!r} is neither a section nor a parameter with a comment")
    return "\n\n".join(parts) + "\n"


def errors_page() -> str:
    """Every error code in the sources, with the texts that it is raised with."""
    rows = [
        f"| `{code}` | {'<br>'.join(cell(text) for text in texts)} |" for code, texts in sorted(error_codes().items())
    ]
    intro = (
        "An error is printed as `error [code] where: text`, with a hint where there is one. "
        "The service answers the same code as `application/problem+json`. "
        "Codes are stable; texts may change. `{...}` stands for a value."
    )
    return "\n\n".join(["# Error codes", intro, "\n".join(["| code | text |", "| --- | --- |", *rows])]) + "\n"


def error_codes() -> dict[str, list[str]]:
    """Code -> texts of the calls that raise it, read from the syntax trees of the sources."""
    codes: dict[str, list[str]] = {}
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS):
                    continue
                if node.args and isinstance(node.args[0], ast.Constant):
                    texts = codes.setdefault(str(node.args[0].value), [])
                    text = template(node.args[1]) if len(node.args) > 1 else ""
                    if text and text not in texts:
                        texts.append(text)
    return codes


def template(node: ast.expr) -> str:
    """The text of a string or f-string with {...} for values; empty for other expressions."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{...}" for part in node.values)
    return ""
