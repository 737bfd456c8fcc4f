"""What the soak is made of: limits, sections, scripts, files, and how often each step comes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tests.demo.config import section

#: Seconds until everything is as it has to be, and for how long nothing may happen then.
SETTLED, STILL = 20.0, 0.5
#: Growth of the daemon's memory after its first minute, in KiB; descriptors that come and go.
GROWTH, SLACK = 8 << 10, 2
#: Bouts in which the daemon is killed and restarted now and then, and as many in which it lives on.
LIVES, STAYS = 12, 24

CLIENTS, PORTS, FAMILIES = ("tv", "pc"), (443, 5000), (4, 6)
HOSTS = {4: ("203.0.113.1", "198.51.100.1"), 6: ("2001:db8:ffff::1", "2001:db8:ffff::2")}
MASKS = (0x3F00, 0xFF00, 0x3F0000, 0x700)
#: Sections that are left out, or mean nothing for the traffic of the soak.
ODD = (
    "",
    section("rule", "nonsense", ("src_ip", "300.1.2.3"), ("use_policy", "all")),
    section("rule", "nobody", ("use_policy", "no_such_policy")) + section("member", "m_none", ("interface", "none")),
    section("interface", "other", ("enabled", "1"), ("family", "ipv5")),
    section("rule", "listed", ("ipset", "soak_list"), ("use_policy", "one")),
    section("rule", "sticky", ("dest_port", "80"), ("proto", "tcp"), ("sticky", "1"), ("use_policy", "even")),
)
NO_UCI = "config interface 'wan\n\toption enabled\n{["
HOOKS = {"quick": "exit 0", "slow": "sleep 0.3", "failing": "exit 3", "hanging": "echo $$ >>@PIDS@; exec sleep 300"}
#: What may be below the run directory, while a daemon runs and when nothing does.
OWN = {"daemon.pid", "lock", "force.lock", "forced.json", "ledger.json"}
GONE = ("connbal/control", "connbal/events", "mwan3", "mwan3track")
RUNNING, OVER = OWN | {"control", "events", "health.json", "applied.uci"}, OWN | {"stopped"}
TRACKED = re.compile(r"(STATUS|TIME|ONLINE|OFFLINE|SCORE|LOST|TURN|STARTED|PID|(TRACK|LATENCY|LOSS)_[0-9a-f.:]+)")


class SoakFailed(AssertionError):
    """Something is not as it has to be."""


#: Of each step how often it comes, and whether it may come in a calm bout.
STEPS: Mapping[str, tuple[float, bool]] = {
    "cut": (4, False), "loss": (1, False), "carrier": (3, False), "storm": (1, False), "netifd": (3, False),
    "address": (2, False), "noise": (1, True), "edit": (4, True), "sections": (1.5, False), "spoil": (0.5, True),
    "force": (2, False), "command": (2, True), "hooks": (1, True), "damage": (3, False), "hangup": (1, True),
    "kill": (0.8, True), "terminate": (0.5, True), "rivals": (0.3, True), "stop": (0.2, False),
}  # fmt: skip
#: What an edit changes; and where there are edits alone, what gives marks another meaning or traffic another way.
KINDS = ("weights", "metrics", "rules", "order", "policy", "interval", "mask", "odd", "affinity")
DENSE = ("metrics", "rules", "order", "mask", "mask")
#: The part of the sure connections that may have been open when their entry had to be forgotten.
FORGIVEN = 0.05
#: Records of sources that come or go.
TURNS = ("ifup", "ifdown", "connected", "disconnected")
#: Steps whose trace others would cover.
ALONE = ("damage", "damage", "edit", "sections", "kill", "force", "carrier", "netifd", "address", "cut")
#: Steps that end the daemon.
ENDS = ("kill", "terminate", "rivals", "stop")
#: The clients' steady traffic: client, family, port.
STEADY = (("tv", 4, 443), ("pc", 6, 5000))
