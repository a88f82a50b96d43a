from __future__ import annotations

import io

from rich.console import Console

from vcfbert.training.progress import ConsoleProgress


def run(*, terminal: bool, steps: int = 8) -> str:
    out = io.StringIO()
    with ConsoleProgress(Console(file=out, force_terminal=terminal, width=120)) as progress:
        progress.epoch(1, 5, steps)
        for number in range(steps):
            progress.step(0.5 / (number + 1), 0.25, 12.0)
        progress.message("epoch 2/5  done")
    return out.getvalue()


def test_without_a_terminal_a_plain_line_each_quarter_of_an_epoch() -> None:
    lines = run(terminal=False).splitlines()
    assert lines == [
        "epoch 2/5  2/8  loss 0.2500  F1 0.250  12 ms/batch",
        "epoch 2/5  4/8  loss 0.1250  F1 0.250  12 ms/batch",
        "epoch 2/5  6/8  loss 0.0833  F1 0.250  12 ms/batch",
        "epoch 2/5  8/8  loss 0.0625  F1 0.250  12 ms/batch",
        "epoch 2/5  done",
    ]


def test_an_epoch_of_few_batches_still_says_its_end() -> None:
    assert run(terminal=False, steps=1).splitlines()[0].startswith("epoch 2/5  1/1")


def test_on_a_terminal_one_bar_with_figures() -> None:
    shown = run(terminal=True)
    for figure in ("epoch 2/5", "8/8", "loss 0.0625", "F1 0.250", "12 ms/batch"):
        assert figure in shown
