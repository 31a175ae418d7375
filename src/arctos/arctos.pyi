"""The extension module of arctos: the supervisor and its workers, in Rust."""

__version__: str

def main() -> int:
    """Runs the `arctos` command line on `sys.argv` and returns its exit code."""
