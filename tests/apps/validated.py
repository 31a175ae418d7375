"""plain:app and others behind wsgiref.validate, whose AssertionErrors become a 500."""

from wsgiref.validate import validator

import plain

app = validator(plain.app)
