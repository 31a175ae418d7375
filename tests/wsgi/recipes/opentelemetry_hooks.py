"""A hook for OpenTelemetry's automatic instrumentation, in a module that imports nothing else."""


def instrument(worker):
    """For --post-fork: takes the place of opentelemetry-instrument, whose thread the supervisor cannot have."""
    from opentelemetry.instrumentation import auto_instrumentation

    auto_instrumentation.initialize()
