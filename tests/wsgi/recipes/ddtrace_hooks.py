"""Hooks for ddtrace, in a module that imports nothing else."""

def start_tracing(worker):
    """For --post-fork: takes the place of ddtrace-run, whose threads the supervisor cannot have because it forks."""
    import ddtrace.auto  # noqa: F401  (the import does it)
