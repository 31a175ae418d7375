"""Exit handlers, a temporary directory and a descriptor limit that a program has before `serve()` and finds
unchanged afterwards. A worker has its own.
"""

import atexit
import multiprocessing.util  # has an exit handler of its own
import os
import resource
import sys
import tempfile

import arctos

ours = tempfile.TemporaryDirectory()
program = os.getpid()
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
limit = (most // 2, most)
resource.setrlimit(resource.RLIMIT_NOFILE, limit)
atexit.register(lambda: print("end of the program", os.getpid() == program, flush=True))


def app(environ, start_response):
    global worker_s
    worker_s = tempfile.TemporaryDirectory()
    atexit.register(print, "end of a worker", os.path.exists(ours.name), flush=True)
    start_response("200 OK", [])
    return [worker_s.name.encode()]


said = sys.stdout
if "closed" in sys.argv:
    sys.stdout = open(os.devnull, "w")
    sys.stdout.close()
code = arctos.serve(app, bind="127.0.0.1:0", workers=1)
sys.stdout = said
print("code", code, os.path.exists(ours.name), resource.getrlimit(resource.RLIMIT_NOFILE) == limit, flush=True)
