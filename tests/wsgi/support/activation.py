"""Socket activation: a program that starts another one as systemd(1) does."""

import sys


def activated(fd, *command):
    """Returns a command that runs `command` with `fd` as its only activated socket.

    sd_listen_fds(3): descriptors start at 3, and LISTEN_PID is the pid of the process that they are for.
    """
    pass_on = "os.set_inheritable(3, True)" if fd == 3 else f"os.dup2({fd}, 3)"
    program = (
        f"import os, sys; {pass_on}; os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1'); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    return [sys.executable, "-c", program, *command]
