"""plain:app and a few more behind wsgiref.validate: its complaints are AssertionErrors, so a 500."""

from wsgiref.validate import validator

import plain

app = validator(plain.app)
