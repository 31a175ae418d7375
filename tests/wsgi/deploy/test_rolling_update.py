"""A rolling update of a Deployment: each instance is the first process of a PID namespace, a new instance is
ready before an old one is stopped, and the balancer learns of both with a delay."""

import os
import signal
import sys
from contextlib import ExitStack

import pytest
from support.balancer import LAG_S, Balancer, Instance, is_ready
from support.namespaces import UNSHARE, require_pid_namespace
from support.processes import children, state
from support.server import SERVER_STOPPING, Server
from support.traffic import traffic_to

REQUESTS = 20_000
IN_KUBERNETES = {"KUBERNETES_SERVICE_HOST": "127.0.0.1"}  # sets the default drain delay to 5 s


def of_a_client(client, number):
    """Four of five clients send short requests, and one sends long ones."""
    return f"/slow?ms={(0, 0, 1, 1, 100)[client % 5]}"


class Pod:
    """One instance, from its start to its exit."""

    def __init__(self, name, directory):
        admin = str(directory / name)
        command = [*UNSHARE, sys.executable, "-m", "arctos"]
        self.server = Server("plain:app", "--admin-bind", f"unix:{admin}", workers=2, command=command, env=IN_KUBERNETES)
        try:
            self.server.ready()
        except BaseException:
            self.server.kill()
            raise
        (self.first,) = children(self.server.pid)
        self.instance = Instance(name, self.server.port, admin)

    def terminate(self):
        """Sends SIGTERM to its first process."""
        os.kill(self.first, signal.SIGTERM)

    def wait(self):
        """Waits for its exit with status 0, and checks that no process is left."""
        assert self.server.wait() == 0, self.server.log
        assert self.server.leftovers() == []

    def close(self):
        """Kills it if it still runs."""
        if state(self.first) not in "XZ":
            os.kill(self.first, signal.SIGKILL)
        self.server.kill()


@pytest.fixture
def start(tmp_path):
    """Starts instances by name."""
    require_pid_namespace()
    with ExitStack() as stack:

        def make(name):
            pod = Pod(name, tmp_path)
            stack.callback(pod.close)
            return pod

        yield make


@pytest.mark.slow
def test_replacing_two_instances_in_turn_fails_none_of_20_000_requests(start):
    """The balancer keeps sending to an instance for 3 s after SIGTERM."""
    with Balancer() as balancer:
        olds = [start("old-1"), start("old-2")]
        for old in olds:
            balancer.add(old.instance)
        balancer.wait_for("old-1", "old-2")
        with traffic_to(balancer, clients=10, target=of_a_client) as journal:
            journal.wait_for_requests(100)
            late = 0
            for number, old in enumerate(olds, 1):
                new = start(f"new-{number}")
                assert is_ready(new.instance)
                balancer.add(new.instance)
                old.terminate()
                old.server.wait_for(SERVER_STOPPING)
                before = journal.answered_at[old.instance.name]
                assert old.instance in balancer.ready(), "the balancer knows already"
                old.wait()
                late += journal.answered_at[old.instance.name] - before
            balancer.wait_for("new-1", "new-2")
            journal.wait_for_requests(REQUESTS)
    answered = journal.answered_at
    print(f"{len(journal.records)} requests {dict(answered)}, {late} of them to instances that were stopping (for {LAG_S} s)")
    assert journal.failed() == []
    assert answered.total() >= REQUESTS
    assert late > 100 and answered.keys() == {"old-1", "old-2", "new-1", "new-2"}
