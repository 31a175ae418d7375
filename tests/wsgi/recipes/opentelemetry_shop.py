"""OpenTelemetry: each worker exports the spans of its requests, and none is lost or sent twice.

The hook makes the provider in the worker, because it starts a thread: a zygote should have none when it forks.
"""

import os

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def shop(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


app = OpenTelemetryMiddleware(shop)


def start_tracing(worker):
    """For --post-fork. The provider sends what is left when the worker exits."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
