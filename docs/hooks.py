"""Adds pages when MkDocs builds the site: command line, params.yaml, error codes, and two files of the root folder."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("vcfbert", "service")
ROOT_PAGES = {"dev/contributing.md": "CONTRIBUTING.md", "dev/changelog.md": "CHANGELOG.md"}
# Texts of codes whose text is not a literal beside the code: another function or another package makes it.
OTHER_TEXTS = {
    "closed": "this service has no access keys and accepts requests from its own machine only",
    "http_error": "any other HTTP error; the status says which",
    "method_not_allowed": "Method Not Allowed",
    "not_found": "Not Found",
    "not_ready": "the model is being loaded, or why it could not be loaded",
    "range_invalid": "the range of the request lies outside the file",
    "reload_refused": "each alias whose newest version cannot be served, with the reason",
    "settings": "each setting whose value is not valid, with the reason",
    "simulation_invalid": "the parameter that is out of bounds, with its bounds",
    "target_invalid": "why a PLINK file cannot be used, with its line",
    "unsupported_type": "Unsupported Media Type",
    "vcf_invalid": "why the header or a record cannot be used",
}
CODE = re.compile(r"[a-z][a-z0-9_]*(\{\.\.\.\}[a-z0-9_]*)*")


def on_files(files: Files, config: Any) -> Files:
    """Adds the generated pages to those of the docs folder."""
    from mkdocs.structure.files import File  # here, so that tests read the pages without MkDocs

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
    """Every error code in the sources, with the texts that it is raised with. Raises ValueError if a code has none."""
    codes = error_codes()
    for code, text in OTHER_TEXTS.items():
        codes[code].append(text)
    if without := [code for code, texts in codes.items() if not texts]:
        raise ValueError(f"docs/hooks.py: OTHER_TEXTS lacks {', '.join(without)}")
    rows = [f"| `{code}` | {'<br>'.join(cell(text) for text in texts)} |" for code, texts in sorted(codes.items())]
    intro = (
        "An error is printed as `error [code] where: text`, with a hint where there is one. "
        "The service answers the same code as `application/problem+json`. "
        "Codes are stable; texts may change. `{...}` stands for a value."
    )
    return "\n\n".join(["# Error codes", intro, "\n".join(["| code | text |", "| --- | --- |", *rows])]) + "\n"


def error_codes() -> dict[str, list[str]]:
    """Code -> texts, read from the syntax trees of the sources.

    A code is what the sources pass as an argument named ``code``: to an error class, to ``problem``, or to a helper
    that raises. It can also be the member ``code`` of a dictionary, or a value of ``CODES``.
    """
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in source_files()]
    places = code_arguments(trees)
    kinds = artifact_kinds(trees)
    codes: dict[str, list[str]] = {}
    for found, text in (each for tree in trees for each in coded(tree, places)):
        for code in [found.replace("{...}", kind) for kind in kinds] if found.startswith("{...}") else [found]:
            if CODE.fullmatch(code):
                texts = codes.setdefault(code, [])
                if text and text not in texts:
                    texts.append(text)
    return codes


def source_files() -> list[Path]:
    """The Python files of library and service."""
    return [path for folder in SOURCES for path in sorted((ROOT / folder).rglob("*.py"))]


def code_arguments(trees: Sequence[ast.Module]) -> dict[str, int]:
    """Name of each function and error class -> position of its argument ``code``, without ``self``."""
    places: dict[str, int] = {"VcfbertError": 0}
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    for _ in classes:  # subclasses may come before their base
        for node in classes:
            if any(isinstance(base, ast.Name) and base.id in places for base in node.bases):
                places[node.name] = 0
    for node in (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        names = [argument.arg for argument in node.args.args if argument.arg != "self"]
        if "code" in names and node.name != "__init__":
            places[node.name] = names.index("code")
    return places


def coded(tree: ast.Module, places: dict[str, int]) -> Iterator[tuple[str, str]]:
    """Each code of a module with its text, which may be empty."""
    named = named_texts(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            # __init__: that of an error class calls super().__init__(code, text)
            place = 0 if name == "__init__" else places.get(name)
            if place is not None and len(node.args) > place:
                text = text_of(node.args[place + 1], named) if len(node.args) > place + 1 else ""
                yield from ((code, text) for code in literals(node.args[place]))
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id == "code":
                yield from ((code, "") for code in literals(node.value))
            elif node.targets[0].id == "CODES" and isinstance(node.value, ast.Dict):
                yield from ((code, "") for value in node.value.values for code in literals(value))
        elif isinstance(node, ast.Dict):
            members = {template(key): value for key, value in zip(node.keys, node.values, strict=True) if key}
            if "code" in members:
                text = text_of(members["detail"], named) if "detail" in members else ""
                yield from ((code, text) for code in literals(members["code"]))


def named_texts(tree: ast.Module) -> dict[str, list[tuple[int, str]]]:
    """Name of each variable -> line and text of each string that is assigned to it, in order of lines."""
    named: dict[str, list[tuple[int, str]]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target, value in assigned(node):
                if text := " / ".join(literals(value)):
                    named.setdefault(target, []).append((node.lineno, text))
    return {name: sorted(texts) for name, texts in named.items()}


def assigned(node: ast.Assign) -> Iterator[tuple[str, ast.expr]]:
    """Names and values of an assignment, of one variable or of a tuple of them."""
    target, value = node.targets[0], node.value
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, each in zip(target.elts, value.elts, strict=False):
            if isinstance(one, ast.Name):
                yield one.id, each


def text_of(node: ast.expr, named: dict[str, list[tuple[int, str]]]) -> str:
    """The text of an expression; of a variable, the string that was last assigned to it above."""
    if isinstance(node, ast.Name):
        above = [text for line, text in named.get(node.id, []) if line <= node.lineno]
        return above[-1] if above else ""
    return " / ".join(literals(node))


def literals(node: ast.expr) -> list[str]:
    """The strings that an expression can be: a string, an f-string, a side of a condition, or the default of get().

    Of a sum, only the first term is read.
    """
    if isinstance(node, ast.BinOp):
        return literals(node.left)
    if isinstance(node, ast.IfExp):
        return [*literals(node.body), *literals(node.orelse)]
    if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "get" and len(node.args) == 2:
        return literals(node.args[1])
    return [text] if (text := template(node)) else []


def artifact_kinds(trees: Sequence[ast.Module]) -> list[str]:
    """The kinds of artifacts that ``read_manifest`` reads: its codes begin with them."""
    kinds: set[str] = set()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                if isinstance(target, ast.Name) and re.fullmatch(r"([A-Z]+_)?KIND", target.id):
                    kinds.update(literals(node.value))
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "read_manifest":
                kinds.update(text for word in node.keywords if word.arg == "kind" for text in literals(word.value))
    return sorted(kinds)


def template(node: ast.expr) -> str:
    """The text of a string or f-string with {...} for values; empty for other expressions."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{...}" for part in node.values)
    return ""
