"""The application of scripts/rollout: `/?ms=N` takes N milliseconds, and answers with the name of its pod.

Its import takes `ROLLOUT_IMPORT_S` seconds, as that of a larger application does.
"""

import os
import time

POD = os.environ["ROLLOUT_POD"].encode()
time.sleep(float(os.environ["ROLLOUT_IMPORT_S"]))


def app(environ, start_response):
    """Waits, as for a database, and answers."""
    time.sleep(int(environ["QUERY_STRING"].removeprefix("ms=")) / 1000)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(POD)))])
    return [POD]
