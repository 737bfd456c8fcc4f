"""``connbal use``: whatever sends, its packets leave by the interface that was named."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.netns.daemon.checks import Labs
from tests.netns.daemon.conftest import MakeService
from tests.netns.daemon.service import Service, tracked

pytestmark = [pytest.mark.netns]

BUSYBOX = shutil.which("busybox") or "busybox"
#: Says which Internet answered, over TCP, in either family.
ASK = """
import socket, sys
with socket.create_connection((sys.argv[1], 5000), 5) as connection:
    connection.sendall(b"?\\n")
    print(connection.recv(100).decode().split()[0])
"""


@pytest.fixture(params=["nft", "legacy"])
def router(request: pytest.FixtureRequest, lab: Labs, service: MakeService) -> Service:
    """A router whose rules send everything by wan, with the daemon at work."""
    one = lab(["wan", "wan1"], xtables=request.param)
    daemon = service(one)
    daemon.configure(tracked(one))
    daemon.start()
    daemon.wait_for(["wan", "wan6", "wan1", "wan1_6"], "online")
    return daemon


def use(daemon: Service, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return daemon.connbal("use", *words, check=check)


def pings(lab: Lab) -> dict[str, int]:
    """How often somebody has begun to ping 203.0.113.77 by each source, as the router's conntrack has it."""
    text = lab.router.sh("conntrack -L -p icmp -d 203.0.113.77")
    return {name: len(re.findall(rf" dst=10\.{number}\.0\.2 ", text)) for number, name in enumerate(("wan", "wan1"), 1)}


@pytest.mark.parametrize(("name", "address"), [
    ("wan", "203.0.113.7"), ("wan1", "203.0.113.7"), ("wan6", "2001:db8:ffff::7"), ("wan1_6", "2001:db8:ffff::7"),
])  # fmt: skip
def test_sockets(router: Service, name: str, address: str) -> None:
    """Commands: ``use IF CMD...``: a socket of a program leaves by IF, in either family."""
    said = use(router, name, sys.executable, "-c", ASK, address)
    assert said.stdout.strip() == name.removesuffix("6").removesuffix("_")
    assert f"DEVICE=e-{said.stdout.strip()} " in said.stderr


def test_static_binaries(router: Service) -> None:
    """Commands: ``use`` works for static binaries: busybox's wget, and its ping, which has a raw socket."""
    for name in ("wan", "wan1"):
        said = use(router, name, BUSYBOX, "wget", "-q", "-O", "-", "http://203.0.113.9:8080/")
        assert said.stdout.split()[0] == name
        before = pings(router.lab)
        use(router, name, BUSYBOX, "ping", "-c", "3", "-W", "2", "203.0.113.77")
        after = pings(router.lab)
        assert {one for one in before if before[one] != after[one]} == {name}


def test_root(router: Service) -> None:
    """Commands: ``use`` keeps root, its capabilities and groups; only the group of what it makes is another."""
    code = "import os; print(os.getuid(), os.geteuid(), os.getgid() - 51700, open('/proc/self/status').read())"
    said = use(router, "wan1", sys.executable, "-c", code).stdout
    assert said.split()[:2] == ["0", "0"]
    assert 0 < int(said.split()[2]) < 253
    (own,) = re.findall("CapEff.*", Path("/proc/self/status").read_text())
    assert own in said


def test_exit_codes(router: Service) -> None:
    """Commands: ``use`` returns the command's exit code, its banner is on stderr, and no argument is touched."""
    said = use(router, "wan1", "sh", "-c", 'echo "$#" "$2"; exit 42', "--", "--help", "a  b;$(id)", check=False)
    assert (said.returncode, said.stdout) == (42, "2 a  b;$(id)\n")
    assert said.stderr.startswith("Running 'sh -c ")
    assert use(router, "wan1", "/no/such/program", check=False).returncode == 127
    assert use(router, "wan1", "/etc", check=False).returncode == 126
    assert use(router, "wan1", "sh", "-c", "kill -TERM $$", check=False).returncode == -signal.SIGTERM
    unknown = use(router, "wan11", "true", check=False)
    assert unknown.returncode == 2
    assert "did you mean wan1?" in unknown.stderr


def test_signals(router: Service) -> None:
    """A signal to the process that was started is one to the command: nothing stands between."""
    process = router.lab.router.popen(router.argv("use", "wan1", "sleep", "60"))
    end = time.monotonic() + 30
    while not Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(b"sleep"):
        assert time.monotonic() < end
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(10) == -signal.SIGTERM


def test_whose_probes_fail(router: Service) -> None:
    """LuCI's diagnostics ask through an interface that is offline: then more than ever it has to leave by that one."""
    router.lab.cut("wan1", families=(6,))
    router.wait_for("wan1_6", "offline")
    said = use(router, "wan1", sys.executable, "-c", ASK, "203.0.113.7")
    assert said.stdout.strip() == "wan1"
    assert use(router, "wan1_6", sys.executable, "-c", ASK, "2001:db8:ffff::7", check=False).returncode == 1


def test_others_are_left_alone(router: Service) -> None:
    """Without ``use`` there are no lines for it; with it, others go where the rules send them; stop takes all away."""
    lines = "iptables-save -t mangle"
    assert "gid-owner" not in router.lab.router.sh(lines)
    use(router, "wan1", "true")
    assert "gid-owner" in router.lab.router.sh(lines)
    assert router.lab.router.run([sys.executable, "-c", ASK, "203.0.113.7"]).stdout.strip() == "wan"
    assert set(router.lab.tcp("tv", count=20).names) == {"wan"}
    router.connbal("stop")
    assert "mwan3" not in router.lab.router.sh(lines)
    stopped = use(router, "wan1", "true", check=False)
    assert stopped.returncode == 1
    assert "connbal is stopped" in stopped.stderr
