"""Applications that are made, and ones that lie deeper in a module."""

import plain


def create_app():
    """Makes an application."""
    return plain.app


def failing_factory():
    """Cannot make one."""
    raise LookupError("nothing to make an application of")


class site:  # noqa: N801 (a namespace)
    """`factory:site.app`."""

    app = staticmethod(plain.app)


number = 5
