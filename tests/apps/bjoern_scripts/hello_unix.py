"""`hello.py` at a unix socket: `unix:/path`, or `unix:@name` without a file."""

import sys

from hello import bjoern, wsgi_app

if __name__ == "__main__":
    bjoern.run(wsgi_app, "unix:" + sys.argv[1])
