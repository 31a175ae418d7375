"""Application factories, and applications that are attributes of an object in a module."""

import plain


def create_app():
    """Returns an application."""
    return plain.app


def failing_factory():
    """Raises."""
    raise LookupError("nothing to make an application of")


class site:  # noqa: N801 (a namespace)
    """`factory:site.app`."""

    app = staticmethod(plain.app)


number = 5
