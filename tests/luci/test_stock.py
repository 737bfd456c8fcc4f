"""What the pages of luci-app-mwan3 ask for, call by call, without the pages: as ``tests.luci.stock`` has seen it with
those of OpenWrt 22.03, 23.05 and 24.10, and of LuCI's tree of August 2026."""

from __future__ import annotations

import re
import stat
from typing import Any

import pytest

from tests.luci.stock.access import Access
from tests.luci.stock.rpcd import Rpcd
from tests.router.configs import HOST, balanced
from tests.router.conftest import MakeRouter

pytestmark = pytest.mark.netns


class Everything(Access):
    """A session that may do all, as root has it with every group installed."""

    def __init__(self) -> None:
        super().__init__([], True)

    def allows(self, scope: str, name: str, function: str) -> bool:
        return True


class Pages:
    """Calls as the pages make them."""

    def __init__(self, rpcd: Rpcd) -> None:
        self.rpcd, self.router = rpcd, rpcd.router

    def ubus(self, name: str, method: str, /, **args: Any) -> dict[str, Any]:
        done = self.rpcd.call(name, method, args)
        assert done.code == 0, done
        return done.answer or {}

    def run(self, *argv: str) -> str:
        """``file exec``: what a program wrote, which has to end well."""
        done = self.ubus("file", "exec", command=argv[0], params=list(argv[1:]))
        assert done["code"] == 0, done
        return str(done.get("stdout", ""))

    def save(self, *changes: tuple[str, dict[str, Any]]) -> None:
        """Save: changes in the page's order, in the package mwan3."""
        for method, args in changes:
            self.ubus("uci", method, config="mwan3", **args)

    def apply(self) -> None:
        """Save & Apply's second half."""
        self.ubus("uci", "apply", rollback=True, timeout=90)
        self.ubus("uci", "confirm")

    @property
    def file(self) -> str:
        return self.router.path("/etc/config/mwan3").read_text()

    def chains(self, text: str) -> None:
        """Wait until the rules of the router have a text."""
        self.router.wait(lambda: text in self.router.sh("iptables -t mangle -S"), f"{text} in the rules")


@pytest.fixture
def pages(router: MakeRouter) -> Pages:
    """Those of a router with two sources and the service running."""
    one = router(["wan", "wan1"], config=balanced({"wan": True, "wan1": True}))
    one.run(["/etc/init.d/mwan3", "start"])
    for name in ("wan", "wan1"):
        one.wait(lambda name=name: one.read(f"/var/run/mwan3track/{name}/STATUS") == "online", f"{name} to be online")
    return Pages(Rpcd(one, Everything(), {}))


def test_status_pages(pages: Pages) -> None:
    """Contract: what the pages show: `status` in both forms, `mwan3 status`, `mwan3 internal ipv4`."""
    for args in ({}, {"section": "interfaces"}):
        told = pages.ubus("mwan3", "status", **args)["interfaces"]
        assert {name: one["status"] for name, one in told.items()} == {"wan": "online", "wan1": "online"}
        assert all(one["online"] >= 0 for one in told.values())
    assert "interface wan is online" in pages.run("/usr/sbin/mwan3", "status")
    assert re.search(r"^.+\n-{10,}$", pages.run("/usr/sbin/mwan3", "internal", "ipv4"), re.MULTILINE)


def test_diagnostics(pages: Pages) -> None:
    """Contract: what LuCI's own helper asks for, and the two buttons that call mwan3."""
    router = pages.router
    gateway = router.sh(". /lib/functions/network.sh; network_get_gateway gw wan1; echo $gw").strip()
    for host in (gateway, HOST):
        pinged = router.sh(f"mwan3 use wan1 ping -c 1 -W 1 {host}")
        assert "1 packets transmitted, 1 packets received" in pinged
    for priority in (1002, 2002):
        assert router.sh(f"ip rule | grep {priority}").count("\n") == 1
    assert "default via" in router.sh("ip route list table 2")
    router.sh("ipset create youtube hash:ip")
    assert router.sh("ipset -n -L | grep -v mwan3_").split() == ["youtube"]
    # Nothing chosen: the button sends an empty name.
    for verb in ("ifup", "ifdown"):
        pages.run("/usr/sbin/mwan3", verb, "")
    pages.run("/usr/sbin/mwan3", "ifdown", "wan1")
    router.wait(lambda: set(router.lab.tcp("tv", count=20).names) == {"wan"}, "wan to carry all")
    pages.run("/usr/sbin/mwan3", "ifup", "wan1")
    router.wait(lambda: set(router.lab.tcp("tv", count=60).names) == {"wan", "wan1"}, "both to carry connections")


#: A new source as the page sends it: every field with what it shows, or, in the newest, those that are not its default.
WAN2: dict[str, Any] = {
    "enabled": "1", "initial_state": "offline", "family": "ipv4", "track_ip": [HOST], "track_method": "ping",
    "reliability": "1", "count": "1", "size": "56", "max_ttl": "60", "timeout": "4", "interval": "10",
    "failure_interval": "5", "recovery_interval": "5", "down": "5", "up": "5", "flush_conntrack": ["ifdown"],
}  # fmt: skip


def test_what_is_saved_is_staged_and_what_is_reverted_is_gone(pages: Pages) -> None:
    """Contract: staged changes must not reach the data plane. rpcd stages apart from the uci command."""
    before, rules = pages.file, pages.router.sh("iptables -t mangle -S")
    pages.save(("add", {"type": "interface", "name": "wan2", "values": WAN2}))
    assert "wan2" in pages.ubus("uci", "get", config="mwan3")["values"]
    assert ["set", "wan2", "interface"] in pages.ubus("uci", "changes")["changes"]["mwan3"]
    pages.router.ubus("network.interface.wan1", "update")
    pages.router.settle()
    assert (pages.file, pages.router.sh("iptables -t mangle -S")) == (before, rules)
    assert "wan2" not in pages.ubus("mwan3", "status")["interfaces"]
    pages.ubus("uci", "revert", config="mwan3")
    assert pages.ubus("uci", "changes")["changes"] == {}
    assert pages.file == before


def test_saved_and_applied(pages: Pages) -> None:
    """The sequence of the pages from a source to a rule, and back: each is applied by the service's own trigger."""
    router = pages.router
    pages.save(
        ("set", {"section": "globals", "values": {"logging": "1", "loglevel": "info", "rt_table_lookup": ["220"]}})
    )
    pages.save(
        ("add", {"type": "interface", "name": "wan2", "values": WAN2}),
        ("add", {"type": "member", "name": "second", "values": {"interface": "wan1", "metric": "2", "weight": "3"}}),
        ("add", {"type": "policy", "name": "only1", "values": {"use_member": ["second"], "last_resort": "blackhole"}}),
    )
    pages.apply()
    pages.chains("mwan3_policy_only1")
    web = {"family": "ipv4", "proto": "tcp", "src_ip": "192.168.1.0/24", "src_port": "1024:65535",
           "dest_ip": "203.0.113.0/24", "dest_port": "5000,8080", "sticky": "1", "timeout": "60", "logging": "1",
           "use_policy": "only1"}  # fmt: skip
    names = list(pages.ubus("uci", "get", config="mwan3")["values"])
    names.insert(names.index("everything"), "web")
    pages.save(("add", {"type": "rule", "name": "web", "values": web}), ("order", {"sections": names}))
    pages.apply()
    router.wait(lambda: set(router.lab.tcp("tv", port=5000, count=20).names) == {"wan1"}, "the rule to be first")
    assert re.findall(r"config rule '(\w+)'", pages.file) == ["web", "everything"]
    pages.save(
        ("delete", {"section": "wan2", "options": ["enabled"]}),
        ("set", {"section": "wan2", "values": {"count": "2"}}),
        ("delete", {"section": "web", "options": None}),
    )
    pages.apply()
    router.wait(lambda: router.read("/var/run/mwan3track/wan2/STATUS") == "disabled", "wan2 to be disabled")
    router.wait(lambda: "5000,8080" not in router.sh("iptables -t mangle -S"), "the rule to be gone")


def test_what_nobody_confirms_is_taken_back(pages: Pages) -> None:
    """A browser that cannot reach the router any more does not confirm; then rpcd puts back the file, and says so."""
    before = pages.file
    pages.save(("set", {"section": "globals", "values": {"mmx_mask": "0xFF0000"}}))
    pages.ubus("uci", "apply", rollback=True, timeout=4)
    pages.chains("/0xff0000")
    pages.chains("/0x3f00")
    assert pages.file == before
    pages.router.wait(
        lambda: "0xff0000" not in pages.router.sh("iptables -t mangle -S; ip rule"), "the other mask to be gone"
    )


def test_the_script_of_events(pages: Pages) -> None:
    """Contract: LuCI writes /etc/mwan3.user with mode 0644, and it runs on every event."""
    router = pages.router
    assert pages.ubus("file", "read", path="/etc/mwan3.user")["data"].startswith("#!/bin/sh\n")
    text = '#!/bin/sh\necho "$ACTION $INTERFACE $DEVICE" >>/tmp/told\n'
    pages.ubus("file", "write", path="/etc/mwan3.user", data=text, mode=0o644)
    assert stat.S_IMODE(router.path("/etc/mwan3.user").stat().st_mode) == 0o644
    router.ubus("network.interface.wan1", "down")
    router.wait(lambda: "ifdown wan1" in router.read("/tmp/told"), "the script to be run")
