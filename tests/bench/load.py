"""What the daemon costs while nothing happens but probes."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tests.bench import proc, setting
from tests.bench.results import Figure
from tests.bench.scene import Options, both, scene
from tests.demo.config import section
from tests.lab import Lab
from tests.netns.daemon.service import Service

#: Per cent of one core.
LIMIT = 10.0
_HOSTS = (
    tuple(f"203.0.113.{number}" for number in range(1, 5)),
    tuple(f"2001:db8:ffff::{number}" for number in range(1, 5)),
)
_PROBING = (("initial_state", "online"), ("timeout", "1"), ("interval", "1"), ("down", "3"), ("up", "3"))


def load(options: Options) -> Iterator[Figure | str]:
    """Processor and memory, by the number of interfaces."""
    effort = options.effort
    names = [f"s{number}" for number in range(1, effort.sources + 1)]
    with scene(options, names, _many) as service:
        yield from _costs(service, f"{2 * len(names)} interfaces, every 1 s", effort.seconds, effort.calm, LIMIT)
    with proc.idle() as pid:
        yield from _memory("Python with the same libraries", pid)
    with scene(options, ("wan1", "wan2", "wan3", "wan4"), setting.shipped().text) as service:
        yield from _costs(service, "8 interfaces, as shipped", effort.seconds, effort.calm, None)


def _many(lab: Lab) -> str:
    parts, members = [], []
    for name in lab.spec.sources:
        for label, family, hosts in zip(both(lab, name), ("ipv4", "ipv6"), _HOSTS, strict=True):
            found = [("track_ip", host) for host in hosts]
            parts.append(section("interface", label, ("enabled", "1"), ("family", family), *_PROBING, *found))
            parts.append(section("member", f"{label}_m", ("interface", label)))
            members.append(("use_member", f"{label}_m"))
    parts += [section("policy", "all", *members), section("rule", "everything", ("use_policy", "all"))]
    return "\n".join(parts)


def _costs(service: Service, name: str, seconds: float, calm: float, limit: float | None) -> Iterator[Figure | str]:
    """``calm``: seconds that pass before."""
    time.sleep(calm)
    service.settled()
    last = service.last()
    before = proc.usage(service.pid)
    most = 0
    while (now := time.monotonic()) < before.at + seconds:
        most = max(most, proc.children(service.pid))
        time.sleep(min(0.25, max(before.at + seconds - now, 0)))
    after = proc.usage(service.pid)
    passed = after.at - before.at
    yield Figure(f"{name}: processor", (100 * (after.cpu - before.cpu) / passed,), limit, "%")
    yield Figure(f"{name}: wakeups a second", ((after.wakeups - before.wakeups) / passed,), unit="")
    yield Figure(f"{name}: processes", (1 + most,), 1, "")
    yield Figure(f"{name}: pages touched by programs it ran", (after.faults - before.faults,), 0, "")
    runs = [record for record in service.events(last) if record["kind"] == "reconcile"]
    yield Figure(f"{name}: runs of the reconciler", (len(runs),), unit="")
    yield from _memory(name, service.pid)
    yield from (f"{name}: a run because of {', '.join(run['causes'])}" for run in runs)


def _memory(name: str, pid: int) -> Iterator[Figure]:
    resident, share = proc.memory(pid)
    yield Figure(f"{name}: resident memory", (resident,), unit="MB")
    yield Figure(f"{name}: memory, shared part divided", (share,), unit="MB")
