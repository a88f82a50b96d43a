"""The OpenTelemetry switch: spans of requests, sent where ``OTEL_EXPORTER_OTLP_ENDPOINT`` says."""

from __future__ import annotations

from fastapi import FastAPI

from vcfbert.errors import MissingExtraError


def instrument(app: FastAPI) -> None:
    """Raises MissingExtraError without the packages. Query strings and headers are not recorded."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "otel_missing", "VCFBERT_OTEL is set and OpenTelemetry is not installed", hint="pip install 'vcfbert[otel]'"
        ) from error
    provider = TracerProvider(resource=Resource.create({"service.name": "vcfbert"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    FastAPIInstrumentor.instrument_app(app, tracer_provider=provider, excluded_urls="healthz,readyz,metrics")
