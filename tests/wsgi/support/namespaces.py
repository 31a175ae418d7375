"""PID namespaces, in which a server is the first process as it is in a container."""

import os
import shutil
import subprocess

import pytest

UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", *([] if os.getuid() == 0 else ["--user", "--map-root-user"])]


def require_pid_namespace():
    """Skips the test where the machine grants no PID namespace."""
    if shutil.which("unshare") is None or subprocess.run([*UNSHARE, "true"], capture_output=True).returncode != 0:
        pytest.skip("this machine grants no PID namespace")
