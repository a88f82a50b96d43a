"""Every test asserts something, itself or by a helper of tests that it calls."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parents[1]
# Calls that assert: pytest's, and Playwright's `expect(locator)`.
ASSERTING_CALLS = {"raises", "warns", "fail", "expect"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def called_names(function: Function) -> set[str]:
    """The last names of what is called: ``f`` of ``f()`` and of ``a.f()``."""
    called = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
    attributes = {node.attr for node in called if isinstance(node, ast.Attribute)}
    return attributes | {node.id for node in called if isinstance(node, ast.Name)}


def asserts(function: Function, asserting: set[str]) -> bool:
    names = called_names(function)
    return (
        any(isinstance(node, ast.Assert) for node in ast.walk(function))
        or any(name.startswith("assert") for name in names)
        or not names.isdisjoint(asserting)
    )


def without_assertion(sources: dict[str, str]) -> list[str]:
    """`FILE: TEST` of the tests that neither assert nor call a function of these files that does."""
    parsed = {file: ast.walk(ast.parse(text)) for file, text in sources.items()}
    functions = [(file, node) for file, nodes in parsed.items() for node in nodes if isinstance(node, Function)]
    asserting = set(ASSERTING_CALLS)
    while found := {f.name for _, f in functions if asserts(f, asserting)} - asserting:
        asserting |= found
    return [f"{file}: {f.name}" for file, f in functions if f.name.startswith("test_") and f.name not in asserting]


def test_scan_of_test_without_assertion_names_it() -> None:
    helper = "def check(x):\n    assert x\ndef through(x):\n    check(x)\n"
    tests = "def test_a():\n    through(1)\ndef test_b():\n    print(1)\ndef test_c():\n    np.assert_allclose(1, 1)\n"
    assert without_assertion({"helper.py": helper, "t.py": tests}) == ["t.py: test_b"]


def test_every_test_asserts() -> None:
    files = sorted(TESTS.rglob("*.py"))
    assert without_assertion({str(file.relative_to(TESTS)): file.read_text() for file in files}) == []
