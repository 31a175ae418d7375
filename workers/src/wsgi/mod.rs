//! The WSGI bridge. Placeholder: written in its own step.
