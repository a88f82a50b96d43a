"""``vcfbert serve`` finds the service's package and passes its options."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.helpers.command_line import vcfbert

SERVICE = """
def main(**options):
    print(sorted((name, value) for name, value in options.items() if value is not None))
    return 3
"""


@pytest.fixture
def fake_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package ``vcfbert_service`` that prints its arguments and returns exit code 3."""
    folder = tmp_path / "vcfbert_service"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "__main__.py").write_text(SERVICE)
    for name in [name for name in sys.modules if name.split(".")[0] == "vcfbert_service"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("fake_service")
def test_serve_passes_its_options_and_returns_the_exit_code() -> None:
    done = vcfbert("serve", "--model", "bundles/chr20", "--port", "9000")
    assert (done.code, done.out.strip()) == (3, "[('model', 'bundles/chr20'), ('port', 9000)]")


def test_serve_without_the_service_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)  # as if it were not installed
    done = vcfbert("serve")
    assert (done.code, "service_missing" in done.err, "vcfbert[service]" in done.err) == (1, True, True)
