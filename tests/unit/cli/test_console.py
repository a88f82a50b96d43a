"""What the command line writes: tables, facts, and progress with and without a terminal."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from rich.console import Console

from vcfbert.cli.console import ConsoleProgress, print_facts, print_json, print_table, progress_bars, say


def fit_output(*, terminal: bool, steps: int = 8) -> str:
    out = io.StringIO()
    with ConsoleProgress(Console(file=out, force_terminal=terminal, width=120)) as progress:
        progress.begin("epoch 2/5", steps)
        for number in range(steps):
            progress.step(f"loss {0.5 / (number + 1):.4f}  F1 0.250  12 ms/batch")
        progress.message("epoch 2/5  done")
    return out.getvalue()


def test_fit_message_with_brackets_is_written_unchanged() -> None:
    out = io.StringIO()
    text = "continues " + "x" * 150 + " [/red] [bold"
    with ConsoleProgress(Console(file=out, width=120)) as progress:
        progress.message(text)
    assert out.getvalue() == f"{text}\n"


def test_fit_without_terminal_writes_a_line_each_quarter_of_an_epoch() -> None:
    lines = fit_output(terminal=False).splitlines()
    assert lines == [
        "epoch 2/5  2/8  loss 0.2500  F1 0.250  12 ms/batch",
        "epoch 2/5  4/8  loss 0.1250  F1 0.250  12 ms/batch",
        "epoch 2/5  6/8  loss 0.0833  F1 0.250  12 ms/batch",
        "epoch 2/5  8/8  loss 0.0625  F1 0.250  12 ms/batch",
        "epoch 2/5  done",
    ]


def test_fit_without_terminal_and_one_batch_writes_the_end_of_the_epoch() -> None:
    assert fit_output(terminal=False, steps=1).splitlines()[0].startswith("epoch 2/5  1/1")


def search_output(*, terminal: bool) -> str:
    out = io.StringIO()
    with ConsoleProgress(Console(file=out, force_terminal=terminal, width=120)) as progress:
        for title in ("1/4 first", "2/4 second"):
            progress.begin(title, None)
            for number in range(2):
                progress.step(f"loss {number}")
    return out.getvalue()


def test_search_without_terminal_writes_a_line_each_step() -> None:
    assert search_output(terminal=False).splitlines() == [
        "1/4 first  1  loss 0",
        "1/4 first  2  loss 1",
        "2/4 second  1  loss 0",
        "2/4 second  2  loss 1",
    ]


def test_search_on_terminal_counts_steps_of_unknown_total() -> None:
    shown = search_output(terminal=True)
    for figure in ("1/4 first", "2/4", "2/?", "loss 1"):
        assert figure in shown


def test_fit_on_terminal_draws_one_bar_with_figures() -> None:
    shown = fit_output(terminal=True)
    for figure in ("epoch 2/5", "8/8", "loss 0.0625", "F1 0.250", "12 ms/batch"):
        assert figure in shown


def bar_output(unit: str, *, terminal: bool, lines: int = 0) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, color_system=None, width=120)
    with progress_bars(unit, lines=lines, console=console) as add_bar:
        bar = add_bar("imputing")
        bar.begin(40)
        for _ in range(20):
            bar.advance(2)
    return out.getvalue()


def test_bar_without_terminal_is_silent() -> None:
    assert bar_output("sites", terminal=False) == ""


def test_bar_without_terminal_writes_as_many_lines_as_asked() -> None:
    shown = bar_output("tasks", terminal=False, lines=4).splitlines()
    assert shown == [f"imputing  {done}/40 tasks" for done in (10, 20, 30, 40)]


@pytest.mark.parametrize(("unit", "amount"), [("sites", "40/40 sites"), ("bytes", "40/40 bytes"), ("%", "100%")])
def test_bar_on_terminal_shows_the_amount_in_its_unit(unit: str, amount: str) -> None:
    shown = bar_output(unit, terminal=True)
    assert "imputing" in shown
    assert amount in shown


def test_bar_without_terminal_imports_no_rich() -> None:
    code = (
        "import sys; from vcfbert.cli.app import app; from vcfbert.cli.console import progress_bars\n"
        "with progress_bars('sites') as add_bar: add_bar('imputing').show(1, 2)\n"
        "sys.exit('rich.console' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_bar_of_unknown_total_shows_what_is_done() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system=None, width=120)
    with progress_bars("sites", console=console) as add_bar:
        add_bar("reading").show(1234)
    assert "1234/? sites" in out.getvalue()


def test_say_writes_brackets_and_long_lines_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    text = "[red]" + "x" * 300
    say(text)
    assert capsys.readouterr().out == f"{text}\n"


def test_json_and_facts_and_tables_go_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": 1})
    print_facts({"k": 8, "metrics": {"r2": 0.123456, "name": "x"}})
    print_table([{"trial": 0, "value": 0.5}, {"trial": 11, "state": None}])
    assert capsys.readouterr().out == (
        '{\n "a": 1\n}\nk        8\nmetrics  r2 0.1235, name x\ntrial  value  state\n0      0.5\n11\n'
    )


@pytest.mark.parametrize(("closed", "code"), [(">&-", 0), ("<&- >&- 2>&-", 0), (">/dev/full", 2), ("| true", 0)])
def test_command_with_unusable_standard_output_leaves_no_traceback(closed: str, code: int) -> None:
    command = f"{sys.executable} -c 'from vcfbert.cli.app import main; main()' config show {closed}"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert ended.returncode == code
    assert "Traceback" not in ended.stderr
