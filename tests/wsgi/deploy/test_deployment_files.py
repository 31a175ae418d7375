"""The deployment in scripts/kubernetes and the units in scripts/systemd do what their comments say with the installed
wheel. The units are well-formed and agree with each other; test_manifests.py checks that of the deployment."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from support.activation import activated
from support.deployment_files import (
    ARCTOS,
    SYSTEMD,
    Shop,
    document,
    environment,
    probes,
    seconds,
    unit,
    unit_environment,
)
from support.processes import children
from support.server import (
    EXIT_CONFIGURATION,
    EXIT_NOT_IMPORTABLE,
    EXIT_USAGE,
    PATIENCE_S,
    MANUAL,
    SERVER_READY,
    SERVER_STOPPING,
    Server,
    clean_environment,
    printed_configuration,
    run,
)
from support.wire import Wire


@pytest.fixture
def shop(tmp_path):
    """The application that the files serve."""
    return Shop(tmp_path)


@pytest.fixture(scope="module")
def pod():
    """The pod of the Deployment."""
    return document("base/deployment.yaml")["spec"]["template"]


@pytest.fixture(scope="module")
def container(pod):
    """Its only container."""
    [found] = pod["spec"]["containers"]
    return found


@pytest.fixture(scope="module")
def service():
    """The section [Service] of arctos.service."""
    return unit("arctos.service")["Service"]


def words_of(service, key):
    """Returns a command of a unit as words."""
    return shlex.split(service[key])


def admin_port(server):
    """The TCP port among the admin sockets."""
    admin = server.wait_for(SERVER_READY).pairs["admin"]
    return int(re.search(r"http://127\.0\.0\.1:(\d+)", admin)[1])


def ask(port, path):
    """Sends a request to the admin port. Returns status and body."""
    with Wire(("127.0.0.1", port)) as wire:
        answer = wire.get(path).response()
    return answer.status, answer.body.decode()


# --- Kubernetes: its server ---


@pytest.fixture
def deploy(serve, shop, container):
    """Starts the command of the container with its variables."""

    def start(*prefix, **more):
        options = shop.words(container["args"])
        # Without the drain delay, except in the test of it.
        env = shop.variables(environment(container)) | {"ARCTOS_DRAIN_DELAY": "0"} | more.pop("env", {})
        command = [*prefix, ARCTOS, *options]
        return serve(None, command=command, bind=[], workers=None, cwd=shop.directory, env=env, **more)

    return start


def test_probes_are_answered(deploy, container):
    port = admin_port(deploy())
    for probe in probes(container).values():
        assert ask(port, probe["httpGet"]["path"])[0] == 200


def test_probes_tell_a_start_from_a_failure(shop, container, gate):
    shop.module.write_text(f"from plain import app\nopen({gate.path!r}).read()\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = shop.variables(environment(container)) | {"ARCTOS_ADMIN_BIND": f"127.0.0.1:{port}", "ARCTOS_WORKERS": "1"}
    command = [ARCTOS, *shop.words(container["args"])]
    server = Server(None, command=command, bind=[], workers=None, cwd=shop.directory, env=env)
    try:
        held = os.open(gate.path, os.O_WRONLY)  # returns once the worker imports
        paths = {name: probe["httpGet"]["path"] for name, probe in probes(container).items()}
        assert ask(port, paths["startupProbe"])[0] == ask(port, paths["readinessProbe"])[0] == 503
        assert ask(port, paths["livenessProbe"])[0] == 200
        os.close(held)
        server.ready()
        assert ask(port, paths["startupProbe"])[0] == 200
        server.stop(signal.SIGINT)
    finally:
        server.kill()


def test_commands_in_the_container_need_no_further_words(deploy, shop, container):
    server = deploy()
    env = shop.variables(environment(container))
    code, out, error = run("ctl", "status", "--json", env=env)
    assert (code, error) == (0, "")
    assert f'"pid": {server.pid}' in out
    assert run("ctl", "scale", "3", env=env)[0] == 0


def test_a_stop_proceeds_as_the_readme_says(deploy, container, connect, gate, inbox):
    server = deploy(env={"ARCTOS_DRAIN_DELAY": "20s"})
    admin = admin_port(server)
    paths = {name: probe["httpGet"]["path"] for name, probe in probes(container).items()}
    held = connect(server)
    held.get(f"/gate?notify={inbox.path}&gate={gate.path}")
    inbox.receive()
    server.send(signal.SIGTERM)
    server.wait_for(SERVER_STOPPING)
    assert ask(admin, paths["readinessProbe"]) == (503, "stopping\n")
    assert ask(admin, paths["livenessProbe"])[0] == 200
    # The supervisor writes the log. Its workers receive the order a little later.
    for _ in range(10_000):
        if connect(server).get("/hello").response().field("Connection") == "close":
            break
    else:
        raise AssertionError("no response says Connection: close")
    server.send(signal.SIGTERM)  # ends the delay
    _until_refused(server.port)
    assert ask(admin, paths["livenessProbe"])[0] == 200
    gate.open()
    assert held.response().status == 200
    assert server.wait() == 0


def _until_refused(port):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            # Until a worker empties the queue, it has room for one connection, which waits or is reset.
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except (ConnectionRefusedError, ConnectionResetError, TimeoutError):
            return
    raise AssertionError("the listener stays open")


ISOLATED = ["unshare", "--pid", "--fork", "--mount", "--mount-proc", "--kill-child"]
if os.getuid() != 0:
    ISOLATED += ["--user", "--map-root-user"]
WITHOUT_RIGHTS = ["setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]


def test_process_1_of_the_container_can_write_only_to_its_volumes(deploy, shop, connect):
    tmp = shop.directory / "tmp"
    tmp.mkdir()
    # The volumes first, and then the root, which does not include them.
    mount = (
        f"mount --make-rprivate / && mount -t tmpfs tmpfs {tmp} && mount -t tmpfs tmpfs {shop.run} && "
        'mount -o remount,bind,ro / && exec "$@"'
    )
    contained = [*ISOLATED, "sh", "-c", mount, "sh", *WITHOUT_RIGHTS]
    if shutil.which("unshare") is None or subprocess.run([*contained, "true"], capture_output=True).returncode != 0:
        pytest.skip("no namespaces to be had here")
    server = deploy(*contained, env={"TMPDIR": str(tmp), "ARCTOS_BODY_MEMORY": "512K"})
    # Only in its namespace: outside, the directories of the volumes are empty.
    assert os.listdir(shop.run) == os.listdir(tmp) == []
    [first] = children(server.pid)
    status = Path(f"/proc/{first}/status").read_text().splitlines()
    assert "CapEff:\t0000000000000000" in status and "NoNewPrivs:\t1" in status
    mounts = Path(f"/proc/{first}/mounts").read_text().splitlines()
    assert any(line.split()[1] == "/" and "ro" in line.split()[3].split(",") for line in mounts)
    body = b"x" * (1 << 20)  # above --body-memory, so it is spooled to a file
    assert connect(server).post("/echo", body).response().body == body
    assert ask(admin_port(server), "/readyz") == (200, "ready\n")
    os.kill(first, signal.SIGTERM)
    assert server.wait() == 0


# --- systemd: the files ---


def test_units_are_well_formed_and_refer_to_each_other():
    service, sockets = unit("arctos.service"), unit("arctos.socket")
    assert set(service) == {"Unit", "Service", "Install"} and set(sockets) == {"Unit", "Socket", "Install"}
    # The names match: arctos.socket belongs to arctos.service.
    assert service["Unit"]["Requires"] == "arctos.socket"
    assert "arctos.socket" in service["Unit"]["After"].split()
    assert sockets["Install"]["WantedBy"] == "sockets.target"


def test_systemd_takes_the_units(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    for path in SYSTEMD.iterdir():
        (tmp_path / path.name).write_text(path.read_text().replace("/srv/shop/venv/bin/arctos", ARCTOS))
    units = [tmp_path / "arctos.service", tmp_path / "arctos.socket"]
    said = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
    assert (said.returncode, said.stdout + said.stderr) == (0, "")


def test_systemd_finds_the_service_well_isolated(tmp_path):
    """The exposure of a service without any isolation is about 9.6, and that of this one 1.9 in systemd 252."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    (tmp_path / "arctos.service").write_text((SYSTEMD / "arctos.service").read_text().replace("/srv/shop/venv/bin/arctos", ARCTOS))
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=25", tmp_path / "arctos.service"]
    said = subprocess.run(command, capture_output=True, text=True)
    assert said.returncode == 0, said.stdout[-200:] + said.stderr


def unit_config(service):
    """The configuration that ExecStart results in."""
    _, *words = words_of(service, "ExecStart")
    return printed_configuration(words, **unit_environment(service))


def test_units_agree_with_the_configuration(service):
    config = unit_config(service)
    assert seconds(config["--graceful-timeout"]) < seconds(service["TimeoutStopSec"])
    assert 3 * seconds(config["--boot-timeout"]) < seconds(service["TimeoutStartSec"])
    assert int(config["--max-connections"]) < int(service["LimitNOFILE"])
    admin = config["--admin-bind"].removeprefix("unix:")
    assert os.path.dirname(admin) == f"/run/{service['RuntimeDirectory']}"
    assert unit("arctos.socket")["Socket"]["Backlog"] == config["--backlog"]


def test_the_supervisor_is_the_process_that_notifies_and_is_signaled(service):
    assert (service["Type"], service["NotifyAccess"], service["KillMode"]) == ("notify", "main", "mixed")
    assert service["OOMPolicy"] == "continue"
    assert service["Restart"] == "on-failure"


def test_a_failure_that_may_pass_is_retried_forever(service):
    limits = unit("arctos.service")["Unit"]
    assert seconds(limits["StartLimitIntervalSec"]) / seconds(service["RestartSec"]) < int(limits["StartLimitBurst"])


def test_it_is_not_restarted_after_permanent_failures(service):
    table = MANUAL.partition("<!-- exit-codes:begin -->")[2].partition("<!-- exit-codes:end -->")[0]
    rows = re.findall(r"^\| (\d+) \|.*\| (yes|no) \|$", table, re.M)
    assert len(rows) == 7
    given_up = {code for code, again in rows if again == "no"} - {"0"}
    assert set(service["RestartPreventExitStatus"].split()) == given_up


# --- systemd: its server ---


@pytest.fixture
def activate(serve, shop, service, inbox):
    """Starts ExecStart as systemd does: with a socket that systemd holds, and with NOTIFY_SOCKET."""

    def start(listening, *prefix, **env):
        fd = listening.fileno()
        env = shop.variables(unit_environment(service)) | {"NOTIFY_SOCKET": inbox.path} | env
        command = [*prefix, *activated(fd, *shop.words(words_of(service, "ExecStart")))]
        return serve(None, command=command, bind=[], workers=2, cwd=shop.directory, env=env, pass_fds=[fd])

    return start


@pytest.fixture
def listening():
    """The socket of arctos.socket, on a free port."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as held:
        yield held


def receive(inbox, state):
    """Returns all notifications up to this state."""
    notified = []
    while state not in notified:
        notified += inbox.receive().splitlines()
    return notified


def reload(shop, service):
    """Runs ExecReload with the variables of the unit."""
    environ = clean_environment() | shop.variables(unit_environment(service))
    command = shop.words(words_of(service, "ExecReload"))
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PATIENCE_S)


def test_reloading_the_unit_reports_the_result(activate, shop, service, listening, inbox, connect):
    server = activate(listening)
    receive(inbox, "READY=1")
    ended = reload(shop, service)
    assert ended.returncode == 0, ended.stderr
    notified = receive(inbox, "READY=1")
    assert "RELOADING=1" in notified and any(re.fullmatch(r"MONOTONIC_USEC=\d+", line) for line in notified)
    shop.module.write_text("raise RuntimeError('broken on purpose')\n")
    ended = reload(shop, service)
    assert ended.returncode == 1 and "RuntimeError: broken on purpose" in ended.stderr
    assert "RELOADING=1" in receive(inbox, "READY=1")
    assert connect(server).get("/hello").response().status == 200
    server.stop()
    receive(inbox, "STOPPING=1")


def test_a_client_between_two_starts_of_the_unit_waits_and_is_served(activate, listening):
    port = listening.getsockname()[1]
    first = activate(listening)
    assert first.ports == [port]
    first.stop()
    with Wire(("127.0.0.1", port)) as waits:
        waits.get("/hello")
        activate(listening)
        assert waits.response().status == 200


@pytest.mark.parametrize(
    ("broken", "code"),
    [("variable", EXIT_USAGE), ("directory", EXIT_CONFIGURATION), ("application", EXIT_NOT_IMPORTABLE)],
)
def test_a_unit_that_cannot_start_ends_with_the_code_that_is_documented(shop, service, broken, code):
    env = shop.variables(unit_environment(service))
    match broken:
        case "variable":
            env["ARCTOS_WORKERS"] = "many"
        case "directory":
            shop.run.rmdir()
        case "application":
            shop.module.write_text("import no_such_module\n")
    _, *words = shop.words(words_of(service, "ExecStart"))
    assert run("--bind", "127.0.0.1:0", *words, cwd=shop.directory, env=env)[0] == code


def allowed_calls(names):
    """Returns the system calls of SystemCallFilter=, including those of nested groups."""
    said = subprocess.run(["systemd-analyze", "syscall-filter"], capture_output=True, text=True, check=True).stdout
    groups, members = {}, set()
    for line in said.splitlines():
        if line.startswith("@"):
            members = groups.setdefault(line.strip(), set())
        elif line.startswith(" ") and not line.strip().startswith("#"):
            members.add(line.strip())
    found, left = set(), set(names)
    while left:
        name = left.pop()
        found.add(name)
        left |= groups.get(name, set()) - found
    return found


def test_the_system_call_filter_of_the_unit_names_existing_calls(activate, shop, service, listening, tmp_path, connect):
    if shutil.which("strace") is None or shutil.which("systemd-analyze") is None:
        pytest.skip("no strace, or no systemd-analyze")
    lines = tmp_path / "calls"
    tracer = ["strace", "--follow-forks", "--quiet=all", "--output", str(lines)]
    if subprocess.run([*tracer, "true"], capture_output=True).returncode != 0:
        pytest.skip("strace cannot trace here")
    server = activate(listening, *tracer)
    assert connect(server).post("/echo", b"x" * (17 << 20)).response().status == 200  # above --body-memory
    assert reload(shop, service).returncode == 0
    [traced] = children(server.pid)
    os.kill(traced, signal.SIGTERM)
    assert server.wait() == 0
    # Each line starts with the pid. An interrupted call continues in a line of its own.
    made = {found[1] for line in lines.read_text().splitlines() if (found := re.match(r"\d+ +([a-z_0-9]+)\(", line))}
    assert {"accept4", "epoll_wait", "memfd_create"} & made
    assert made - allowed_calls(service["SystemCallFilter"].split()) == set()


def test_the_guide_links_the_units():
    linked = set(re.findall(r"\]\(../../scripts/systemd/([^)]+)\)", MANUAL))
    assert linked == {path.name for path in SYSTEMD.iterdir()}
