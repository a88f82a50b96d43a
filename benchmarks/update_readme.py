"""Puts what the demo and the benchmarks wrote into the README's tables, between their markers.

  python -m benchmarks.update_readme            # after `make demo` and the benchmarks named in the README

Both languages of the README get the same tables. A table whose report is missing stays as it is.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from vcfbert.artifacts import write_text

READMES = (Path("README.md"), Path("README.zh-CN.md"))
# Marker -> the Markdown that a run left.
TABLES = {
    "compare": Path("reports/compare.md"),
    "variants": Path("reports/bench_variants.md"),
    "refresh": Path("reports/bench_refresh.md"),
    "io": Path("reports/bench_io.md"),
}


def fill(text: str, name: str, table: str) -> str:
    """The text with the table put between its markers. Raises SystemExit where the markers are missing."""
    pattern = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    filled, count = pattern.subn(lambda match: f"{match[1]}\n{table.strip()}\n\n{match[2]}", text)
    if count != 1:
        raise SystemExit(f"the README has {count} places for the table {name}, and should have one")
    return filled


def tables_only(markdown: str) -> str:
    """Table lines and the paragraphs after them, without headings: the README has its own."""
    return "\n".join(line for line in markdown.splitlines() if not line.startswith("#"))


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for readme in filter(Path.is_file, READMES):
        text = readme.read_text()
        for name, report in TABLES.items():
            if report.is_file():
                text = fill(text, name, tables_only(report.read_text()))
            else:
                print(f"{readme}: no {report}, table {name} left as it is")
        write_text(readme, text)


if __name__ == "__main__":
    main()
