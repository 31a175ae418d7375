"""`python -m arctos`: the same as the `arctos` command."""

from . import main

if __name__ == "__main__":
    raise SystemExit(main())
