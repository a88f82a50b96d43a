"""Commands that load when they are called, and options that are read without pydantic."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from vcfbert.cli import lazy
from vcfbert.cli.app import app

READ: list[dict[str, Any]] = []


def echo(
    name: Annotated[str, typer.Option(help="Text.")],
    path: Annotated[Path | None, typer.Option(help="A path.")] = None,
    count: Annotated[int, typer.Option(min=1, max=9)] = 2,
    share: Annotated[float, typer.Option(min=0.0)] = 0.5,
    known: Annotated[Path | None, typer.Option(exists=True)] = None,
    words: Annotated[list[str] | None, typer.Option()] = None,
    loud: bool = False,
) -> None:
    """Remembers its arguments."""
    READ.append(
        {"name": name, "path": path, "count": count, "share": share, "known": known, "words": words} | {"loud": loud}
    )


def outcome(monkeypatch: pytest.MonkeyPatch, *arguments: str, plain: bool) -> tuple[int, str, dict[str, Any]]:
    """Exit code, messages and arguments of ``echo``, whose options are read with and without ``_PlainOption``."""
    READ.clear()
    monkeypatch.setattr(lazy, "COMMANDS", ("echo",))
    monkeypatch.setattr(lazy, "import_module", lambda name: SimpleNamespace(echo=echo))
    if not plain:
        monkeypatch.setattr(lazy, "_kind_of", lambda hint: (None, None))
    done = CliRunner().invoke(app, ["echo", *arguments])
    return done.exit_code, done.output, READ[0] if READ else {}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--name", "a"], 0),
        (["--name", "", "--path", "x y", "--count", "9", "--share", "1e-3", "--loud"], 0),
        (["--name", "a", "--count", "1_0"], 2),
        (["--name", "a", "--count", "0"], 2),
        (["--name", "a", "--count", "10"], 2),
        (["--name", "a", "--count", "many"], 2),
        (["--name", "a", "--count", "2.0"], 0),
        (["--name", "a", "--share", "nan"], 2),
        (["--name", "a", "--share", "-1"], 2),
        (["--name", "a", "--share", "1,5"], 2),
        (["--name", "a", "--known", "/no/such/file"], 2),
        (["--name", "a", "--known", "/"], 0),
        (["--name", "a", "--words", "b", "--words", "c"], 0),
        (["--count", "2"], 2),
        (["--name"], 2),
        (["--help"], 0),
    ],
)
def test_plain_options_read_values_as_typer_does(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int
) -> None:
    plain = outcome(monkeypatch, *arguments, plain=True)
    assert plain == outcome(monkeypatch, *arguments, plain=False)
    assert plain[0] == code


def test_plain_options_convert_to_the_annotated_types(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, read = outcome(monkeypatch, "--name", "7", "--path", "8", "--count", "9", "--share", "1", plain=True)
    assert {name: type(value) for name, value in read.items() if value is not None} == {
        "name": str, "path": type(Path()), "count": int, "share": float, "loud": bool,
    }  # fmt: skip


def test_every_command_has_its_module() -> None:
    folder = Path(lazy.__file__).parent
    shared = {"__init__", "app", "console", "lazy", "options", "tasks"}
    assert {path.stem for path in folder.glob("*.py")} - shared == {*lazy.COMMANDS, *lazy.GROUPS}


def test_unknown_command_gets_suggestions_and_exit_code_2() -> None:
    done = CliRunner().invoke(app, ["imputate"])
    assert done.exit_code == 2
    assert "Did you mean 'impute', 'simulate'?" in done.output


def test_calling_a_command_imports_no_other_command() -> None:
    code = (
        "import sys; from vcfbert.cli.app import app\n"
        "try: app(['config', 'show'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('config', *sys.argv[1:]) if f'vcfbert.cli.{name}' in sys.modules])"
    )
    others = [name for name in (*lazy.COMMANDS, *lazy.GROUPS) if name != "config"]
    ended = subprocess.run([sys.executable, "-c", code, *others], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "['config']"
