"""The router itself: what it leaves of itself, and what its stand-ins do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.lab.owners import start_time, sweep
from tests.router.conftest import MakeRouter
from tests.router.watch import Watch
from tests.router.web import NOBODY, login, web

pytestmark = pytest.mark.netns

_OWNER = """
import sys
from pathlib import Path
from tests.lab.lab import Lab
from tests.router.router import Router
lab = Lab(("wan",)).up()
router = Router(lab, Path(sys.argv[1])).up()
router.sh("/etc/init.d/connbal start; sleep 100 >/dev/null 2>&1 &")
print(router.processes(), lab.tmp, flush=True)
sys.stdin.read()
"""


def machine_mounts() -> list[str]:
    """This machine's mounts, but for the names of labs' namespaces, which come and go."""
    return [line for line in Path("/proc/self/mounts").read_text().splitlines() if " /run/netns/" not in line]


def test_it_ends_with_the_process_that_made_it(lab_available: None, staged: Path) -> None:
    """However that ends; and it shows in no mount of this machine."""
    mounts = machine_mounts()
    owner = subprocess.Popen([sys.executable, "-c", _OWNER, str(staged)], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])  # fmt: skip
    try:
        assert owner.stdout is not None
        pid, directory = owner.stdout.readline().split()
        assert start_time(int(pid))
        assert directory not in Path("/proc/self/mounts").read_text()
        assert machine_mounts() == mounts
    finally:
        os.kill(owner.pid, signal.SIGKILL)
        owner.communicate()
    deadline = time.monotonic() + 10
    while start_time(int(pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not start_time(int(pid))  # process 1 of the router, and so all of it
    sweep()  # as the next lab does
    assert not Path(directory).exists()


def test_programs_of_the_machine_cannot_be_changed_from_inside(router: MakeRouter) -> None:
    """What the router has from this machine, it can read."""
    one = router(["wan"])
    for place in ("/host/usr/bin", "/host/site"):
        assert one.run(["touch", f"{place}/connbal-was-here"], check=False).returncode != 0
    assert one.sh("readlink -f /bin/sh") == "/bin/busybox\n"


def test_uci_stages_and_commits(router: MakeRouter) -> None:
    """As libuci: what is set is read at once, and is in the file after the commit."""
    one = router(["wan"], config="config interface 'wan'\n\toption enabled '1'\n")
    one.sh("uci set mwan3.wan.down=7; uci add_list mwan3.wan.track_ip=1.1.1.1; uci add_list mwan3.wan.track_ip=8.8.8.8")
    assert one.sh("uci get mwan3.wan.down; uci get mwan3.wan.track_ip") == "7\n1.1.1.1 8.8.8.8\n"
    assert "down" not in one.read("/etc/config/mwan3")
    one.sh("uci del_list mwan3.wan.track_ip=1.1.1.1; uci commit mwan3")
    assert one.sh("uci show mwan3.wan.track_ip; uci changes") == "mwan3.wan.track_ip='8.8.8.8'\n"
    assert "option down '7'" in one.read("/etc/config/mwan3")
    one.sh("uci set mwan3.wan.down=9; uci revert mwan3")
    assert one.sh("uci get mwan3.wan.down") == "7\n"
    assert one.run(["uci", "-q", "get", "mwan3.nobody.down"], check=False).returncode == 1


def test_a_plugin_is_waited_for_until_nobody_has_its_output(router: MakeRouter) -> None:
    """As rpcd: the answer is complete when the outputs are closed; the exit status does not matter."""
    one = router(["wan"])
    plugin = one.path("/usr/libexec/rpcd/slow")
    plugin.write_text("#!/bin/sh\ncase $1 in list) echo '{\"go\": {}, \"none\": {}}' ;; call) [ $2 = none ] || "
                      "{ (sleep 1; echo '{\"late\": 1}') & } ;; esac\n")  # fmt: skip
    plugin.chmod(0o755)
    one.run(["/etc/init.d/rpcd", "reload"])
    assert one.ubus("slow", "go") == {"late": 1}
    assert one.run(["ubus", "call", "slow", "none"], check=False).returncode == 5


def test_rpcd_grants_what_files_of_rights_say_and_nothing_else(router: MakeRouter) -> None:
    """As rpcd: groups by patterns, read with write, objects and programs by patterns, and no without a grant."""
    one = router(["wan"], config="config interface 'wan'\n")
    one.path("/usr/share/rpcd/acl.d/page.json").write_text(json.dumps({"page": {
        "read": {"uci": ["mwan3"], "file": {"/bin/echo a *": ["exec"]}, "ubus": {"uci": ["get"], "file": ["*"]}},
        "write": {"uci": ["mwan3"], "ubus": {"uci": ["set"]}},
    }}))  # fmt: skip
    logins = "".join(f"config login\n\toption username '{user}'\n\tlist {half} '{groups}'\n"
                     for user, half, groups in (("reader", "read", "p*"), ("writer", "write", "*")))  # fmt: skip
    one.path("/etc/config/rpcd").write_text(logins)
    change = {"config": "mwan3", "section": "wan", "values": {"enabled": "1"}}
    ways: list[tuple[str, str, dict[str, Any]]] = [
        ("uci", "get", {"config": "mwan3"}), ("uci", "set", change), ("uci", "get", {"config": "network"}),
        ("file", "exec", {"command": "/bin/echo", "params": ["a", "b"]}),
        ("file", "exec", {"command": "/bin/echo", "params": ["b"]}), ("file", "read", {"path": "/etc/passwd"}),
    ]  # fmt: skip
    for user, wanted in (("reader", [0, 6, 6, 0, 6, 6]), ("writer", [0, 0, 6, 0, 6, 6])):
        session, _ = login(one, user)
        assert [web(one, session, *way)[0] for way in ways] == wanted
    assert one.sh("uci changes") == "mwan3.wan.enabled='1'\n"
    assert web(one, NOBODY, "session", "login", {"username": "reader", "password": "x"})[0] == 6
    assert web(one, session, "nobody", "get", {})[0] == 4


def test_who_watches_sees_what_is_done(router: MakeRouter) -> None:
    """A shell with a hostile text, a program, a file: each is a complaint; what connbal does by itself is none."""
    one = router(["wan"])
    watch = Watch(one)
    one.run(["/usr/bin/connbal", "rule", "disable", "@rule[0]"])
    assert list(watch.complaints()) == []
    deeds = "import os, subprocess; open('/etc/other', 'w'); os.system('true'); subprocess.run(['/bin/ls'])"
    one.run(["/usr/bin/python3", "-c", deeds, "connbal"])
    found = list(watch.complaints())
    assert [line.rpartition(": ")[2].split()[0] for line in found] == ["open", "os.system", "subprocess.Popen"]
    one.sh("true # pwned")
    assert next(watch.complaints()) == "a shell was given a hostile text"
