from __future__ import annotations

from pathlib import Path

import pytest

from service.app import create_app
from tests.helpers.service import StubSource, call, settings

pytest.importorskip("opentelemetry.sdk", reason="the extra `otel` is not installed")


def test_request_span_has_route_and_no_query(tmp_path: Path) -> None:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from service.http.tracing import instrument

    app, exporter = create_app(settings(tmp_path), StubSource()), InMemorySpanExporter()
    instrument(app, exporter)
    call(app, ("GET", "/v1/models?sample=NA12878", {}), ("GET", "/healthz", {}))
    app.state.traces.force_flush()
    (span,) = exporter.get_finished_spans()
    assert span.name == "GET /v1/models"
    assert span.attributes is not None
    assert "NA12878" not in str(dict(span.attributes))
    assert 200 in span.attributes.values()
    app.state.traces.shutdown()
