"""OpenTelemetry traces of requests, sent to ``OTEL_EXPORTER_OTLP_ENDPOINT``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from vcfbert.errors import MissingExtraError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

# Span attributes that may contain the query string, by old and new conventions. Traces must not hold it.
_WITH_QUERY = ("http.url", "http.target", "url.full", "url.query")


def instrument(app: FastAPI, exporter: SpanExporter | None = None) -> None:
    """Trace every request except probes and scrapes. Raises MissingExtraError without the packages."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "otel_missing",
            "VCFBERT_OTEL is set, but OpenTelemetry is not installed",
            hint="pip install 'vcfbert[otel]'",
        ) from error
    provider = TracerProvider(resource=Resource.create({"service.name": "vcfbert"}))
    provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
    app.state.traces = provider
    FastAPIInstrumentor.instrument_app(
        app,
        tracer_provider=provider,
        excluded_urls="healthz,readyz,metrics",
        server_request_hook=_without_query,
        exclude_spans=["receive", "send"],
    )


def _without_query(span: Span, scope: dict[str, Any]) -> None:
    for name in _WITH_QUERY:
        if name in getattr(span, "attributes", {}):
            span.set_attribute(name, scope["path"])
