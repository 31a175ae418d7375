"""A server that upgrades, together with the servers that take over from it."""

import os
import signal

from support.server import PATIENCE_S, SERVER_READY, Server

UPGRADE_STARTED = "upgrade.started"
UPGRADE_FAILED = "upgrade.failed"
UPGRADE_REFUSED = "upgrade.refused"
UPGRADE_TAKEN_OVER = "upgrade.taken_over"
SERVER_STOPPED = "server.stopped"


class UpgradableServer(Server):
    """Signals go to the process that serves."""

    main = None

    @property
    def pid(self):
        return self.main or self.process.pid

    def send(self, number):
        os.kill(self.pid, number)

    def upgrade(self):
        """Returns when the successor serves and its predecessor has exited."""
        since, before = self.position(), self.pid
        self.send(signal.SIGUSR2)
        self.wait_for(UPGRADE_TAKEN_OVER, since=since, predecessor=before)
        self.main = int(self.wait_for(SERVER_READY, since=since).pairs["pid"])
        self.wait_for(SERVER_STOPPED, since=since, pid=before)
        assert self.process.wait(PATIENCE_S) == 0
        return self

    def stop(self, number=signal.SIGTERM, timeout=PATIENCE_S):
        if self.main is None:
            return super().stop(number, timeout)
        self.send(number)
        self.wait_for(SERVER_STOPPED, pid=self.pid)
        self.wait()  # until no process holds its standard error any more
        assert self.leftovers() == [], f"processes are left\n{self.log}"
        return self
