"""Traces of requests for OpenTelemetry: one span a request, joined to the client's where it sent ``traceparent``."""

import time

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.types import Scope

from nacre import __version__
from nacre.serve.gateway.observe import route_of


class OtlpTracer:
    """Sends spans in batches, behind the requests' back; what the collector does not take is dropped.

    Args:
        endpoint: of the collector, e.g. ``http://127.0.0.1:4318/v1/traces``.
        exporter: in place of the one for `endpoint`.
    """

    def __init__(self, endpoint: str, exporter: SpanExporter | None = None) -> None:
        resource = Resource.create({"service.name": "nacre", "service.version": __version__})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter(endpoint=endpoint)))
        self._tracer = self._provider.get_tracer("nacre.serve", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def request(self, scope: Scope, headers: Headers, seconds: float, status: int) -> None:
        """A span that ends now and began `seconds` ago. It names ids, route, version and arm, never a text."""
        ended_ns = time.time_ns()
        # Not `tracestate`: half a kilobyte of a client's own words in every span.
        parent = self._propagator.extract({"traceparent": Headers(scope=scope).get("traceparent", "")})
        state, route = scope.get("state", {}), route_of(scope)
        told = {
            "http.request.method": scope["method"],
            "http.route": route,
            "http.response.status_code": status,
            "nacre.request_id": state.get("request_id"),
            "nacre.key": state.get("key_id"),
            "nacre.response_id": headers.get("x-nacre-response-id"),
            "nacre.version": headers.get("x-nacre-version"),
            "nacre.arm": headers.get("x-nacre-arm"),
        }
        span = self._tracer.start_span(
            f"{scope['method']} {route}",
            context=parent,
            kind=SpanKind.SERVER,
            attributes={name: value for name, value in told.items() if value is not None},
            start_time=ended_ns - int(seconds * 1e9),
        )
        if status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end(ended_ns)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()
