"""Memory cgroups for servers, of version 1 or 2, and what applies to this process."""

import uuid
from contextlib import contextmanager
from pathlib import Path

import pytest

# Joins the cgroup whose file is the first argument, and executes the rest.
JOIN = ["sh", "-c", 'echo $$ > "$0" && exec "$@"']


def _v1_group(name, limit):
    """Makes a memory cgroup of version 1 below that of this process; `None` where there is no such controller."""
    groups = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    own = next((path for controllers, path in groups.items() if "memory" in controllers.split(",")), None)
    if own is None:
        return None
    group = Path(f"/sys/fs/cgroup/memory{own}") / name
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(str(limit))
    return group


def _v2_group(name, limit):
    """Makes a memory cgroup of version 2."""
    own = Path("/proc/self/cgroup").read_text().partition("0::")[2].splitlines()[0]
    group = Path(f"/sys/fs/cgroup{own}") / name
    group.mkdir()
    try:
        (group / "memory.max").write_text(str(limit))
    except OSError:
        group.rmdir()
        raise
    return group


@contextmanager
def memory_group(limit):
    """Makes a memory cgroup with a limit in bytes, and removes it when no process is in it any more."""
    name = f"arctos-test-{uuid.uuid4()}"
    try:
        group = _v1_group(name, limit) or _v2_group(name, limit)
    except (OSError, IndexError) as error:
        pytest.skip(f"no memory cgroup can be made, v1 or v2: {error}")
    try:
        yield group
    finally:
        group.rmdir()


def limit_file(group):
    """Returns the file with the limit of a cgroup."""
    return next(file for name in ("memory.max", "memory.limit_in_bytes") if (file := group / name).exists())


def joining(group, *command):
    """Returns a command that runs another one in a cgroup."""
    return [*JOIN, f"{group}/cgroup.procs", *command]
