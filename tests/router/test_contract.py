"""The contract as those who rely on it see it: ROOter's own configuration, and files and words as scripts read them."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from tests.router.configs import HOST, balanced
from tests.router.conftest import MakeRouter
from tests.router.router import Router
from tests.unit.rpcd.contract import check

pytestmark = pytest.mark.netns

ROOTER = Path(__file__).parents[1] / "vectors/configs/rooter-default"
NUMBERS = ("TIME", "ONLINE", "OFFLINE", "SCORE", "LOST", "TURN", "STARTED", "PID")
_CLOCK = r"\d\dh:\d\dm:\d\ds"
#: What `mwan3 interfaces` says of an interface, and what a script takes out of it.
LINE = re.compile(
    rf" interface (\w+) is (online|offline|connecting|disconnecting|disabled|unknown)"
    rf" and tracking is (active|paused|down|disabled)( \(online {_CLOCK}, uptime {_CLOCK}\)| \(\d+\))?"
)


def rooter() -> str:
    """ROOter's default configuration, with a host that a lab has, and asked often enough for a test."""
    text = re.sub(r"\tlist track_ip '.*'", f"\tlist track_ip '{HOST}'", ROOTER.read_text())
    return re.sub(r"(option (?:failure_|recovery_)?interval) '\d+'", r"\1 '1'", text)


def online(router: Router, *names: str) -> None:
    """Wait until these are."""
    for name in names:
        router.wait(lambda name=name: router.read(f"/tmp/run/mwan3track/{name}/STATUS") == "online", f"{name} online")


def test_rooters_configuration_as_its_scripts_see_it(router: MakeRouter) -> None:
    """Contract: ROOter's 22 interfaces, numbered by their place, each with files and a line; a modem comes and goes."""
    one = router(["wan", "wan1", "wan2"], config=rooter())
    names = re.findall(r"config interface '(\w+)'", rooter())
    assert len(names) == 22
    one.sh("uci set mwan3.wan.enabled=1; uci set mwan3.wan1.enabled=0; uci commit mwan3; /etc/init.d/mwan3 start")
    online(one, "wan")
    one.wait(lambda: all(one.read(f"/tmp/run/mwan3track/{name}/STATUS") for name in names), "a file for each")
    settled = {"wan", "wan6", "wan1_6", "wan2_6"}  # those that have a network here and are enabled
    states = {name: one.read(f"/tmp/run/mwan3track/{name}/STATUS") for name in names if name not in settled - {"wan"}}
    assert {name for name, word in states.items() if word != "disabled"} == {"wan"}
    lines = one.run(["mwan3", "interfaces"]).stdout.splitlines()
    assert (lines[0], lines[-1]) == ("Interface status:", "")
    told = dict(match.groups()[:2] for line in lines[1:-1] if (match := LINE.fullmatch(line)))
    assert list(told) == names
    assert {name: told[name] for name in states} == states
    assert one.run(["mwan3", "policies"]).stdout.startswith("Current ipv4 policies:\nbalanced:\n")
    # As ROOter's scripts do when a modem has connected.
    one.sh("uci set mwan3.wan1.enabled=1; uci commit mwan3; /usr/sbin/mwan3 restart")
    online(one, "wan1")
    said = one.ubus("mwan3", "status")
    check(said)
    assert list(said["interfaces"]) == names
    assert {name for name, part in said["interfaces"].items() if part["enabled"]} >= {"wan", "wan1"}
    rules = one.sh("ip rule")
    for name in ("wan", "wan1"):
        number = names.index(name) + 1
        for priority, words in ((1000, f"iif e-{name} lookup {number}"), (2000, f"fwmark .* lookup {number}"),
                                (3000, "fwmark .* unreachable")):  # fmt: skip
            assert re.search(rf"^{priority + number}:\tfrom all {words}", rules, re.MULTILINE), (name, priority)
        assert "default via" in one.sh(f"ip route list table {number}")
    # How Tailscale knows that it has to keep out of the way.
    assert one.path("/etc/config/mwan3").exists()
    assert re.search(r"^200[1-4]:.*fwmark", rules, re.MULTILINE)
    # When the modem has gone, conmon finds the word that it writes itself.
    one.sh("uci set mwan3.wan1.enabled=0; uci commit mwan3; /usr/sbin/mwan3 restart")
    one.wait(lambda: one.read("/tmp/run/mwan3track/wan1/STATUS") == "disabled", "wan1 to be disabled")


def test_files_and_words_while_a_source_goes_and_comes(router: MakeRouter) -> None:
    """Contract: each file is one line for all to read; of ONLINE and OFFLINE one is 0; mwan3.user has 3 variables."""
    one = router(["wan", "wan1"], config=balanced({"wan": True, "wan1": True}, interval="0.4"))
    script = "tr '\\0' '\\n' </proc/$$/environ >/tmp/u.$INTERFACE\nmv /tmp/u.$INTERFACE /tmp/user.$INTERFACE.$ACTION\n"
    one.path("/etc/mwan3.user").write_text(script)
    one.path("/etc/mwan3.user").chmod(0o644)
    one.run(["/etc/init.d/mwan3", "start"])
    online(one, "wan", "wan1")
    seen: dict[str, dict[str, int]] = {}
    here = one.path("/tmp/run/mwan3track/wan")

    def look(wanted: str) -> None:
        one.wait(lambda: one.read("/tmp/run/mwan3track/wan/STATUS") == wanted, f"wan to be {wanted}")
        texts = {path.name: path.read_text() for path in here.iterdir() if not path.name.startswith(".")}
        assert all(re.fullmatch(r"[a-z0-9]+\n", text) for text in texts.values()), texts
        assert {stat.S_IMODE(path.stat().st_mode) for path in here.iterdir()} == {0o644}
        seen[wanted] = {name: int(texts[name]) for name in NUMBERS}
        assert texts.get(f"TRACK_{HOST}", "up\n") in ("up\n", "down\n")
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        assert all(seen[wanted][name] <= uptime + 1 for name in ("TIME", "ONLINE", "OFFLINE"))

    one.wait(lambda: (here / f"TRACK_{HOST}").exists(), "wan to be probed")
    look("online")
    one.lab.cut("wan")
    look("disconnecting")
    look("offline")
    assert one.read(f"/tmp/run/mwan3track/wan/TRACK_{HOST}") == "down"
    one.lab.restore("wan")
    look("connecting")
    look("online")
    one.run(["mwan3", "ifdown", "wan"])
    look("disabled")
    one.run(["mwan3", "ifup", "wan"])
    look("online")
    zero = {state: {name for name in ("ONLINE", "OFFLINE") if numbers[name] == 0} for state, numbers in seen.items()}
    assert zero == {
        "online": {"OFFLINE"}, "disconnecting": {"OFFLINE"}, "offline": {"ONLINE"}, "connecting": {"ONLINE"},
        "disabled": {"ONLINE"},  # it is off since it was told to be
    }  # fmt: skip
    assert {numbers["STARTED"] for state, numbers in seen.items() if state != "disabled"} == {1}
    assert (seen["disabled"]["STARTED"], seen["online"]["SCORE"], seen["offline"]["SCORE"]) == (0, 4, 0)
    assert {numbers["PID"] for numbers in seen.values()} == {int(one.read("/var/run/connbal/daemon.pid"))}
    for event in ("connected", "disconnected"):
        one.wait(one.path(f"/tmp/user.wan.{event}").exists, f"mwan3.user to be told of {event}")
        variables = dict(line.split("=", 1) for line in one.read(f"/tmp/user.wan.{event}").splitlines())
        assert variables == {"ACTION": event, "INTERFACE": "wan", "DEVICE": "e-wan"}


def test_commands_that_name_no_interface_or_no_command(router: MakeRouter) -> None:
    """Contract: exit codes and streams of mwan3's commands, with the service and without."""
    one = router(["wan"], config=balanced({"wan": True}))
    shown = ("interfaces", "policies", "connected", "rules", "status", "internal ipv4", "internal ipv6", "help", "")
    for step in ("before", "start", "stop"):
        if step != "before":
            one.run(["/usr/sbin/mwan3", step])
        if step == "start":
            online(one, "wan")
        for words in shown if step == "start" else ("status", "internal ipv6"):
            done = one.run(["/usr/sbin/mwan3", *words.split()], check=False)
            assert (done.returncode, done.stderr) == (0, ""), (step, words)
            assert done.stdout, (step, words)
            assert done.stdout.isprintable() or set(done.stdout) - set(map(chr, range(32, 127))) <= {"\n", "\t"}
        for words in ("ifup", "ifdown", "ifup wan extra", "ifup nobody", "ifdown nobody"):
            assert one.run(["/usr/sbin/mwan3", *words.split()], check=False).returncode == 0, (step, words)
    assert "mwan3_" not in one.sh("iptables -t mangle -S; ip6tables -t mangle -S; ipset list -n")
    assert one.run(["mwan3", "policies"]).stdout == "Current ipv4 policies:\n\nCurrent ipv6 policies:\n\n"
