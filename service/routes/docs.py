"""The API documentation at ``/docs``: plain HTML, rendered from the OpenAPI schema. It loads nothing from elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>vcfbert: API</title>
<link rel="icon" href="static/favicon.svg" type="image/svg+xml">
<link rel="stylesheet" href="static/style.css">
<link rel="stylesheet" href="static/reports.css">
</head>
<body>
<main>
<h1>vcfbert API, version {version}</h1>
<p>The same description for programs: <a href="openapi.json">openapi.json</a>. To impute in the browser, use
<a href="./">the web page</a>.</p>
<p>If the service has access keys, send <code>Authorization: Bearer KEY</code> with each request. Errors are
<code>application/problem+json</code> with a stable <code>code</code>.</p>
"""


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    schema = request.app.openapi()
    parts = [_HEAD.replace("{version}", escape(schema["info"]["version"]))]
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            parts += _operation(method.upper(), path, operation, schema)
    return HTMLResponse("".join([*parts, "</main>\n</body>\n</html>\n"]))


def _operation(method: str, path: str, operation: dict[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    yield f"<section>\n<h2>{escape(operation['summary'])}</h2>\n<p><code>{method} {escape(path)}</code></p>\n"
    if operation.get("description"):
        yield f"<p>{_marked(operation['description'])}</p>\n"
    rows = [
        (parameter["name"], parameter["in"], parameter.get("required", False), parameter.get("schema", {}), parameter)
        for parameter in operation.get("parameters", [])
    ]
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        body = _resolved(content.get("schema", {}), schema)
        required = body.get("required", [])
        rows += [(name, media_type, name in required, part, part) for name, part in body.get("properties", {}).items()]
    if rows:
        yield "<table>\n<thead><tr><th>Name</th><th>In</th><th>Type</th><th>Description</th></tr></thead>\n<tbody>\n"
        for name, place, required, kind, about in rows:
            needed = " (required)" if required else ""
            cells = (name + needed, place, _kind(_resolved(kind, schema)), about.get("description", ""))
            yield "<tr>" + "".join(f"<td>{_marked(str(cell))}</td>" for cell in cells) + "</tr>\n"
        yield "</tbody>\n</table>\n"
    answers = operation.get("responses", {})
    listed = [f"<li>{status}: {_marked(about['description'])}</li>\n" for status, about in answers.items()]
    yield "".join(["<ul>\n", *listed, "</ul>\n<div>\n"])
    for title, text in _examples("Request", operation.get("requestBody", {})):
        yield _folded(title, _pre(text))
    refusals = []
    for status, about in answers.items():
        for title, text in _examples(f"Response {status}", about):
            if int(status) < 400:
                yield _folded(title, _pre(text))
            else:
                refusals.append(_pre(text))
    if refusals:
        yield _folded("Errors", "".join(refusals))
    yield "</div>\n</section>\n"


def _resolved(part: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    reference = part.get("$ref")
    if reference is None:
        return part
    found: dict[str, Any] = schema["components"]["schemas"][reference.rpartition("/")[2]]
    return found


def _kind(part: dict[str, Any]) -> str:
    """Returns a short name of a parameter's type."""
    if "anyOf" in part:
        return " or ".join(_kind(each) for each in part["anyOf"] if each.get("type") != "null")
    if "enum" in part:
        return ", ".join(map(str, part["enum"]))
    if part.get("contentMediaType") or part.get("format") == "binary":
        return "file"
    return str(part.get("type", "object" if "properties" in part else "any"))


def _examples(title: str, about: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields title and text of each example of a request or response."""
    for content in about.get("content", {}).values():
        for name, example in content.get("examples", {}).items():
            value = example.get("value")
            text = value if isinstance(value, str) else json.dumps(value, indent=2)
            yield f"{title}: {example.get('summary', name)}", text


def _pre(text: str) -> str:
    return f"<pre><code>{escape(text)}</code></pre>\n"


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{escape(title)}</summary>\n{content}</details>\n"


def _marked(text: str) -> str:
    """Returns escaped text with backticked parts as code."""
    return re.sub(r"(`+)(.+?)\1", r"<code>\2</code>", escape(text))
