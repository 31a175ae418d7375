"""Runs the steps of a Dockerfile without a container engine: each image is a directory, and `RUN` is chroot(2).

A Debian image with Python is this machine's system below an overlay, with the interpreter of the tests in /usr/local,
where the official images have theirs. Nothing that a step writes reaches this machine.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BASE_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin", "HOME": "/"}
# SIOCSIFFLAGS with IFF_UP (netdevice(7)), because ip(8) is not installed everywhere.
LOOPBACK_UP = (
    "import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh14x', b'lo', 1))"
)


def parse(text):
    """Yields the name, the flags and the rest of each instruction."""
    joined = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")).replace("\\\n", " ")
    for line in filter(str.strip, joined.splitlines()):
        name, _, rest = line.strip().partition(" ")
        words, flags = rest.split(), []
        while words and words[0].startswith("--"):
            flags.append(words.pop(0))
            rest = rest.strip().partition(" ")[2]
        yield name, dict(flag[2:].partition("=")[::2] for flag in flags), rest.strip()


def exec_form(value):
    """Returns the words of ENTRYPOINT, CMD or HEALTHCHECK; the form with a shell is an error."""
    words = json.loads(value)
    assert isinstance(words, list) and all(isinstance(word, str) for word in words), value
    return words


class Image:
    """The directory of a stage, and how its first process is started."""

    def __init__(self, root, environment=BASE_ENVIRONMENT):
        self.root, self.environment = root, dict(environment)
        self.directory, self.user, self.entrypoint, self.command, self.health = "/", "0:0", [], [], []

    def derived(self):
        """A stage that begins from this one continues in its directory."""
        made = Image(self.root, self.environment)
        made.directory, made.user = self.directory, self.user
        return made


class Engine:
    """The namespaces in which images are built and run: mounts, processes and a loopback interface."""

    def __init__(self, place):
        self.place = place
        unshare = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
        prepare = f'mount -t tmpfs none {place} && "$0" -c "$1" && echo ready && exec sleep 600'
        self.holder = subprocess.Popen(
            [*unshare, "sh", "-c", prepare, sys.executable, LOOPBACK_UP], stdout=subprocess.PIPE, text=True
        )
        if self.holder.stdout.readline() != "ready\n":
            self.close()
            pytest.skip("this machine grants no namespaces for mounts, processes and the network")
        children = Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children").read_text().split()
        self.enter = ["nsenter", "--target", children[0], "--mount", "--net", "--pid"]

    def close(self):
        self.holder.kill()
        self.holder.wait()
        self.holder.stdout.close()

    def shell(self, script):
        """Runs a shell in the namespaces, but outside of any image."""
        return self.output([*self.enter, "sh", "-euc", script])

    def output(self, command):
        ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert ran.returncode == 0, f"{shlex.join(command)} ends with {ran.returncode}:\n{ran.stdout}"
        return ran.stdout

    # --- Images ---

    def python_image(self):
        """An image like those of `python` on Docker Hub."""
        root, prefix = self.place / "python", sys.base_prefix
        site = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
        overlay = "mkdir -p {0}.u {0}.w {0}.m && mount -t overlay o -o lowerdir={1},upperdir={0}.u,workdir={0}.w"
        self.shell(
            f"mkdir {root} && {overlay.format(root, '/')} {root}\n"
            f"{overlay.format(f'{root}.local', prefix)} {root}/usr/local\n"
            f"mount --rbind /dev {root}/dev && mount -t proc proc {root}/proc\n"
            # Only pip is installed there, whose script would name the place that the interpreter has here.
            f"mount -t tmpfs none {root}/usr/local/{site} && cp -a {prefix}/{site}/pip* {root}/usr/local/{site}/\n"
            f"printf '#!/bin/sh\\nexec python3 -m pip \"$@\"\\n' >{root}/usr/local/bin/pip\n"
            f"chroot {root} ldconfig"
        )
        return Image(root)

    def empty_image(self):
        """The image `scratch`, with what an engine mounts in each container."""
        root = self.place / "scratch"
        self.shell(f"mkdir -p {root}/dev {root}/proc && mount --rbind /dev {root}/dev && mount -t proc proc {root}/proc")
        return Image(root, {})

    def inside(self, image, words, user=None, environment=()):
        """Returns the command that runs the words in an image, as its first process would be run."""
        uid, gid = (user or image.user).split(":")
        entered = (
            "import os, sys, warnings; root, uid, gid, directory, *words = sys.argv[1:]; os.chroot(root); os.chdir(directory);"
            "os.setgroups([]); os.setgid(int(gid)); os.setuid(int(uid)); os.umask(0o022); os.execvpe(words[0], words, os.environ)"
        )
        variables = {**image.environment, **dict(environment)}
        assignments = [f"{name}={value}" for name, value in variables.items()]
        start = [sys.executable, "-c", entered, str(image.root), uid, gid, image.directory]
        # nsenter keeps PATH for itself; the interpreter outside of the image starts with the variables of the image.
        return [*self.enter, "env", "-i", *assignments, *start, *words]

    # --- Instructions ---

    def build(self, images, name, instructions, context):
        """Carries out the instructions of one stage."""
        image = images[name]
        for word, flags, value in instructions:
            if word == "RUN":
                self.run(images, image, flags, value, context)
            elif word == "COPY":
                source, target = value.split()
                origin = images[flags["from"]].root if "from" in flags else context
                self.shell(f"cp -a {origin}{source}/. {image.root}{target}" if source.startswith("/") else
                           f"mkdir -p {image.root}{target} && cp -a {context}/{source} {image.root}{target}")  # fmt: skip
            elif word == "ENV":
                image.environment.update(pair.split("=", 1) for pair in shlex.split(value))
            elif word == "WORKDIR":
                self.shell(f"mkdir -p {image.root}{value}")
                image.directory = value
            elif word == "USER":
                image.user = value
            elif word == "ENTRYPOINT":
                image.entrypoint = exec_form(value)
            elif word == "CMD":
                image.command = exec_form(value)
            elif word == "HEALTHCHECK":
                image.health = exec_form(value.removeprefix("CMD "))
            else:
                assert word == "EXPOSE", word

    def run(self, images, image, flags, command, context):
        """A bind mount of the build is read-only, as in BuildKit."""
        mount = dict(part.split("=") for part in flags["mount"].split(",")) if "mount" in flags else None
        if mount:
            source = f"{images[mount['from']].root if 'from' in mount else context}/{mount['source'].strip('/')}"
            target = f"{image.root}{mount['target']}"
            self.shell(f"mkdir -p {target} && mount --bind {source} {target} && mount -o remount,ro,bind {target}")
        self.output(self.inside(image, ["/bin/sh", "-c", command]))
        if mount:
            self.shell(f"umount {target} && rmdir {target}")


def require_engine():
    """Skips the test where it cannot build images."""
    if os.getuid() != 0 or shutil.which("unshare") is None or "overlay" not in Path("/proc/filesystems").read_text():
        pytest.skip("takes root, unshare(1) and overlay mounts")
    if sys.base_prefix in ("/usr", "/usr/local"):
        pytest.skip("takes a Python with a prefix of its own, like that of the image: this one is a part of the system")
    if not re.search(r" (/usr)?/lib\S*/libc\.so\.6$", Path("/proc/self/maps").read_text(), re.M):
        pytest.skip("takes a Python that uses the C library of this system")
