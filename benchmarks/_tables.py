"""Markdown of a benchmark's table, and its place on a page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

Report = Mapping[str, Any]


def markdown_table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    names = list(header)
    lines = [names, ["---", *["---:"] * (len(names) - 1)], *(list(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine_line(machine: Report) -> str:
    """CPU, GPU if any, cores and torch in one line."""
    cores = machine["cores"]
    parts = [machine["cpu"], f"{cores} core{'' if cores == 1 else 's'}", machine["gpu"], f"torch {machine['torch']}"]
    return "Machine: " + ", ".join(part for part in parts if part) + "."


def section(table: str, machine: Report, targets: Mapping[str, bool | None]) -> str:
    """The table, its machine, and one line per target; None marks a target that the run did not measure."""
    words = {True: "reached", False: "**missed**", None: "not measured"}
    lines = [f"- {words[reached]}: {target}" for target, reached in targets.items()]
    return "\n\n".join([table, machine_line(machine), "\n".join(lines)]).strip()


def fill(text: str, name: str, table: str, where: str) -> str:
    """The text of the page ``where`` with the table between its markers; SystemExit unless there is one such place."""
    pattern = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    filled, count = pattern.subn(lambda match: f"{match[1]}\n{table.strip()}\n\n{match[2]}", text)
    if count != 1:
        raise SystemExit(f"{where}: {count} places for the table {name}, and there should be one")
    return filled


def plural(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
