"""``/usr/sbin/mwan3`` beside a daemon, in a router: what it shows, and what it does."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.netns.daemon.checks import Labs, wait_until, working
from tests.netns.daemon.conftest import MakeService
from tests.netns.daemon.service import Service, tracked

pytestmark = [pytest.mark.netns]

BUSYBOX = shutil.which("busybox") or "busybox"
SCRIPT = Path(__file__).parents[3] / "files/usr/sbin/mwan3"
#: A split, a failover and a last resort, and one rule for each; the last is sticky.
RULES = """
config policy 'split'
	list use_member 'split_a'
	list use_member 'split_b'

config policy 'nothing'
	option last_resort 'blackhole'

config member 'split_a'
	option interface 'wan'
	option weight '2'

config member 'split_b'
	option interface 'wan1'

config rule 'web'
	option proto 'tcp'
	option dest_port '443'
	option sticky '1'
	option use_policy 'split'

config rule 'none'
	option dest_ip '198.51.100.9'
	option use_policy 'nothing'

config rule 'main'
	option dest_ip '198.51.100.8'
	option use_policy 'default'

config rule 'a_rule_with_a_long_name'
	option dest_ip '198.51.100.7'
	option sticky '1'
	option use_policy 'split'

config rule 'long'
	option dest_ip '198.51.100.6'
	option use_policy 'a_policy_with_a_long_name'

config rule 'everything'
	option use_policy 'all'

config policy 'a_policy_with_a_long_name'
	option last_resort 'default'
"""


def text(lab: Lab) -> str:
    spare = "config interface 'wan2'\n\toption enabled '0'\n\tlist track_ip '203.0.113.1'\n"
    return tracked(lab, rules=RULES) + "\n" + spare


@pytest.fixture(params=["nft", "legacy"])
def router(request: pytest.FixtureRequest, lab: Labs, service: MakeService) -> Service:
    one = lab(["wan", "wan1"], xtables=request.param)
    daemon = service(one)
    daemon.configure(text(one))
    daemon.start()
    working(daemon, "wan", "wan6", "wan1", "wan1_6")
    return daemon


def mwan3(daemon: Service, *words: str) -> subprocess.CompletedProcess[str]:
    """The script, with everything of this system in the place of the router's."""
    root = daemon.lab.tmp / "root"
    if not root.exists():
        (root / "etc/rc.d").mkdir(parents=True)
        (root / "etc/rc.d/S19connbal").touch()
        program = "#!/bin/sh\nexec " + " ".join(daemon.argv()) + ' "$@"\n'
        (root / "connbal").write_text(program)
        (root / "connbal").chmod(0o755)
        script = SCRIPT.read_text().replace("/usr/bin/connbal", f"{root}/connbal")
        (root / "mwan3").write_text(script.replace("/etc/rc.d", f"{root}/etc/rc.d"))
    environment = f"CONNBAL_RUN_DIR={daemon.lab.run_dir}"
    return daemon.lab.router.run(["env", environment, BUSYBOX, "sh", str(root / "mwan3"), *words])


def test_interfaces(router: Service) -> None:
    """Commands: ``interfaces``: one line each, as mwan3 words it."""
    lines = mwan3(router, "interfaces").stdout.splitlines()
    assert lines[0] == "Interface status:"
    clock = r"\d\dh:\d\dm:\d\ds"
    online = rf" interface wan is online and tracking is active \(online {clock}, uptime {clock}\)"
    assert re.fullmatch(online, lines[1])
    assert lines[5:] == [" interface wan2 is disabled and tracking is down (31)", ""]


def test_a_source_that_is_tested_by_its_gateway_alone_is_tracked(router: Service) -> None:
    """Commands: ``interfaces`` says the same as ubus of a source without ``track_ip``."""
    words = re.sub(r"\tlist track_ip .*\n", "", text(router.lab))
    router.configure(words.replace("\toption enabled '1'\n", "\toption enabled '1'\n\toption track_gateway '1'\n"))
    gateway = ["10.1.0.1"]
    router.wait(lambda told: [one["host"] for one in told["interfaces"]["wan"]["hosts"]] == gateway, "a gateway probed")
    router.wait_for("wan", "online")
    assert " interface wan is online and tracking is active " in mwan3(router, "interfaces").stdout


def test_policies(router: Service) -> None:
    """Commands: ``policies``: for each policy ``IF (NN%)``, or its last resort, in both families."""
    found = mwan3(router, "policies").stdout
    long = "a_policy_with_a_long_name:\n default\n"
    assert found == (
        f"Current ipv4 policies:\n{long}all:\n wan (100%)\nnothing:\n blackhole\nsplit:\n wan (67%)\n wan1 (33%)\n\n"
        f"Current ipv6 policies:\n{long}all:\n wan6 (100%)\nnothing:\n blackhole\nsplit:\n unreachable\n\n"
    )


def test_connected(router: Service) -> None:
    """Commands: ``connected``: the networks of the sets, one a line."""
    parts = mwan3(router, "connected").stdout.split("\n\n")
    assert parts[0].splitlines()[0] == "Directly connected ipv4 networks:"
    assert {"10.1.0.0/24", "10.2.0.0/24", "192.168.1.0/24", "224.0.0.0/3"} <= set(parts[0].splitlines())
    assert parts[1].splitlines()[0] == "Directly connected ipv6 networks:"
    assert {"::1", "ff00::/8"} <= set(parts[1].splitlines())


def test_rules(router: Service) -> None:
    """Commands: ``rules``: lines as iptables lists them: counters, ``- POLICY``, ``S RULE`` for a sticky one."""
    lines = mwan3(router, "rules").stdout.split("\n\n")[0].splitlines()
    assert lines[0] == "Active ipv4 user rules:"
    assert [re.sub(" +", " ", line).split(" ")[3:5] for line in lines[1:]] == [
        ["S", "web"], ["-", "nothing"], ["-", "default"], ["S", "a_rule_with_a_long_name"],
        ["-", "a_policy_with_a_long_name"], ["-", "all"],
    ]  # fmt: skip
    assert all(re.match(r" *\d+ +\d+ [-S] ", line) for line in lines[1:])
    assert "mwan3_" not in "".join(lines) and "[goto]" not in "".join(lines)  # noqa: PT018  one thing, said twice
    assert "198.51.100.9" in lines[2]


def test_status(router: Service) -> None:
    """Commands: ``status`` is all of these, and ends well without a daemon and after stop, too."""
    shown = "".join(mwan3(router, one).stdout for one in ("policies", "connected"))
    assert shown in mwan3(router, "status").stdout
    router.kill()
    down = mwan3(router, "interfaces").stdout.splitlines()
    assert down[1] == " interface wan is unknown and tracking is down"
    router.connbal("stop")
    stopped = mwan3(router, "status").stdout
    assert " interface wan is unknown and tracking is down (31)" in stopped
    assert "Current ipv4 policies:\n\n" in stopped  # as with mwan3: nothing is refused any more


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_internal(router: Service, family: str) -> None:
    """Commands: ``internal`` prints sections as a title line followed by a line of at least 10 dashes."""
    lines = mwan3(router, "internal", family).stdout.splitlines()
    titles = [lines[at - 1] for at, line in enumerate(lines) if re.fullmatch("-{10,}", line)]
    number, tool = family[-1], "iptables" if family == "ipv4" else "ip6tables"
    shown = ("a show", "route show", "rule show", "route list table 1-250")
    commands = [*(f"ip -{number} {words}" for words in shown), f"{tool} -t mangle -w -L -v -n"]
    assert titles == ["Software-Version", *(f'Output of "{command}"' for command in commands)]
    assert "0:\tfrom all lookup local" in lines
    assert any(line.startswith("Routing table 1:") == (number == "4") for line in lines)
    assert any("Chain mwan3_hook" in line for line in lines)


def test_nothing_slow_is_loaded(router: Service) -> None:
    """The warm path: interfaces and policies come from the daemon's state; pyroute2 is not loaded."""
    code = "import sys; from connbal.cli.main import main\n"
    code += "try: main(sys.argv[1:])\nfinally: print('pyroute2' in sys.modules)"
    options = router.argv()[3:]
    for what in ("interfaces", "policies", "status"):
        said = router.lab.router.run([sys.executable, "-c", code, *options, "mwan3", what])
        assert said.stdout.splitlines()[-1] == "False", what


def test_ifdown_and_ifup(router: Service) -> None:
    """Commands: ``ifdown IF`` takes an interface away until ``ifup IF``; netifd's ifup ends it too, as with mwan3."""
    for end in (lambda: mwan3(router, "ifup", "wan"), lambda: router.hotplug("ifup", "wan", "e-wan"),
                lambda: router.hotplug("ifup", "wan_4", "e-wan"), lambda: mwan3(router, "restart")):  # fmt: skip
        mwan3(router, "ifdown", "wan")
        router.wait_for("wan", "disabled")
        assert set(router.lab.tcp("tv", port=80, count=10).names) == {"wan1"}
        assert (router.mwan3track("wan") / "STATUS").read_text().strip() == "disabled"
        end()
        working(router, "wan")
    # What the user has forced stays.
    router.connbal("interface", "force", "wan", "down")
    router.hotplug("ifup", "wan", "e-wan")
    mwan3(router, "restart")
    router.settled()
    assert router.status()["interfaces"]["wan"]["forced"] == "down"  # type: ignore[index]  # it answers: it has settled
    mwan3(router, "ifup", "wan")
    working(router, "wan")


def test_restart_within_netifd(router: Service) -> None:
    """ROOter: ``uci commit``, ``mwan3 restart`` and the hotplug event of a modem, overlapping, in any order.

    On connect ``mwan3.wan1.enabled`` follows lb, on disconnect it becomes 0. Nothing but the last commit counts.
    """
    chance = random.Random(7)
    on, off = text(router.lab), re.sub(r"(?<=interface 'wan1'\n\toption enabled ')1", "0", text(router.lab))
    assert on != off
    for _ in range(10):
        wanted = chance.random() < 0.5
        event = "ifup" if wanted else "ifdown"
        steps = [lambda: mwan3(router, "restart"), lambda: mwan3(router, "restart"),
                 lambda event=event: router.hotplug(event, "wan1", "e-wan1")]  # fmt: skip
        router.configure(on if wanted else off)
        for step in chance.sample(steps, chance.randint(1, 3)):
            step()
        status = router.mwan3track("wan1") / "STATUS"
        good = {"online"} if wanted else {"disabled"}
        wait_until(lambda status=status, good=good: status.read_text().strip() in good, "what was committed last")


def test_nothing_is_forked(router: Service) -> None:
    """The hook and ``mwan3 restart`` cost next to nothing: they make no process at all."""
    mwan3(router, "interfaces")
    root = router.lab.tmp / "root"
    # Process ids are given one after the other within a namespace.
    last = "read -r _ _ _ _ {} </proc/loadavg\n"
    script = (root / "mwan3").read_text().replace("\nexit 0\n", "\n")
    script += last.format("after") + "echo $((after - before))\n"
    for words in ("restart", "ifdown wan1", "ifup wan1"):
        counted = root / "counted"
        counted.write_text(f"set -- {words}\n" + last.format("before") + script)
        argv = ["env", f"CONNBAL_RUN_DIR={router.lab.run_dir}", "unshare", "-p", "-f", BUSYBOX, "sh", str(counted)]
        assert router.lab.router.run(argv).stdout == "0\n", words
