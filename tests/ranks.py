"""Programs as mpiexec runs them, a process for each rank; over TCP, between hosts of their own."""

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from contextlib import contextmanager

import pytest
from checkpoints import ROOT

# What UCX sends by sockets alone, and nothing to see whether the other is there; no shared memory.
TCP = {
    "MPIR_CVAR_NOLOCAL": "1",
    "MPIR_CVAR_CH4_NETMOD": "ucx",
    "UCX_TLS": "tcp,self",
    "UCX_KEEPALIVE_INTERVAL": "inf",
}


def mpiexec(size, program, *args, before=(), options=(), **env):
    """The command that runs a program in so many ranks, and its environment."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    scripts = sysconfig.get_path("scripts")
    found = shutil.which("mpiexec", path=scripts) or shutil.which("mpiexec")
    if not found:
        pytest.skip("there is no mpiexec")
    python = [sys.executable, str(program), *map(str, args)]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    env = {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", **env}
    return [*before, found, *options, "-n", str(size), *python], env


def run(size, program, *args, **options):
    """What came of it once all ranks have ended."""
    command, env = mpiexec(size, program, *args, **options)
    return subprocess.run(
        command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240
    )


def over_tcp():
    """Options for ranks of this machine that speak by sockets."""
    if not any(name != "lo" for _, name in socket.if_nameindex()):
        pytest.skip("there is no network but the loopback, over which UCX does not go")
    return TCP


@contextmanager
def two_hosts(folder):
    """Options for ranks on two hosts: namespaces of this machine's network, joined by a cable."""
    names = [f"minigpt-{os.getpid()}-{i}" for i in (1, 2)]

    def ip(*words):
        command = ["ip", *words]
        return subprocess.run(command, check=True, capture_output=True, timeout=300).stdout

    try:
        try:
            for name in names:
                ip("netns", "add", name)
            other_end = ["type", "veth", "peer", "name", "cable", "netns", names[1]]
            ip("link", "add", "cable", "netns", names[0], *other_end)
            for i, name in enumerate(names, 1):
                ip("-n", name, "addr", "add", f"10.77.0.{i}/24", "dev", "cable")
                for end in ("lo", "cable"):
                    ip("-n", name, "link", "set", end, "up")
            for name in 200 * names:
                if ip("-n", name, "-br", "link", "show", "cable").split()[1] != b"UP":
                    time.sleep(0.05)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"this machine's network cannot be divided here: {error}")
        enter = folder / "enter"  # in place of ssh: options, a host, a command
        enter.write_text(
            "#!/bin/sh\nwhile case $1 in -*) ;; *) false;; esac; do shift; done\n"
            f'host=${{1##*.}}; shift; exec ip netns exec minigpt-{os.getpid()}-$host sh -c "$*"\n'
        )
        enter.chmod(0o755)
        hosts = ["-iface", "cable", "-hosts", "10.77.0.1,10.77.0.2", "-ppn", "1"]
        options = ["-launcher", "ssh", "-launcher-exec", str(enter), *hosts]
        before = ["ip", "netns", "exec", names[0]]
        yield {"before": before, "options": options, **TCP, "UCX_NET_DEVICES": "cable"}
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=300)
