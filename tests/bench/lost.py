"""New connections that are lost while something happens that is none of their business, or is done in good order."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

from tests.bench.flows import Flows, failures
from tests.bench.results import Figure
from tests.bench.scene import Options, await_status, both, forget_neighbours, scene
from tests.demo.config import member, policy, section
from tests.lab import Lab
from tests.netns.daemon.service import Service

#: New connections are shared between A and B; C is for others.
A, B, C = "wan1", "wan2", "wan3"
#: Whose connections are counted, and a site that is never asked.
_OTHER = "198.51.100.0/24"


def text(lab: Lab, more: str = "") -> str:
    """The configuration; ``more``: a further site of C's. Connections are not forgotten when a source goes."""
    parts = [section("globals", "globals", ("affinity", "connection"))]
    for name in (A, B, C):
        for label, family, hosts in zip(both(lab, name), ("ipv4", "ipv6"), _HOSTS, strict=True):
            parts.append(section(
                "interface", label, ("enabled", "1"), ("family", family), *_PROBING,
                *(("track_ip", host) for host in hosts),
            ))  # fmt: skip
    parts += [
        member("a", A), member("b", B), member("c", C), policy("shared", "a", "b"), policy("elsewhere", "c"),
        section("rule", "other", ("dest_ip", _OTHER), *([("dest_ip", more)] if more else []),
                ("use_policy", "elsewhere")),
        section("rule", "everything", ("use_policy", "shared")),
    ]  # fmt: skip
    return "\n".join(parts)


_HOSTS = (("203.0.113.1", "203.0.113.2"), ("2001:db8:ffff::1", "2001:db8:ffff::2"))
_PROBING = (("initial_state", "online"), ("timeout", "0.5"), ("interval", "0.2"), ("down", "3"), ("up", "3"))


def lost(options: Options) -> Iterator[Figure | str]:
    """New connections by A and B that were lost while something happened. (C is a third source.)"""
    count = options.effort.events
    with scene(options, (A, B, C), text) as service:
        for what, happen in EVENTS.items():
            yield from _while(service, options.effort.rate, f"{what}, times {count}", happen, count)


def _while(
    service: Service, rate: float, what: str, happen: Callable[[Service, int], None], count: int
) -> Iterator[Figure | str]:
    begun = []
    with Flows(service.lab, rate) as running:
        for number in range(count):
            begun.append(time.monotonic())
            happen(service, number)
            service.settled()
        found = running.stop()
    names = sum((answers.names for answers in found.values()), Counter[str]())
    assert names.keys() == {A, B}, f"{what}: connections by {dict(names)}"
    missing = sum(len(answers.failures) for answers in found.values())
    yield Figure(what, (missing,), 0, "", sum(map(len, found.values())))
    yield from (f"lost, {what}: {line}" for line in failures(found, begun))


# --- what happens -------------------------------------------------------------------------------------------------


def _netifd(service: Service, _: int) -> None:
    lab = service.lab
    lab.ifdown(C)
    for name in both(lab, C):
        service.hotplug("ifdown", name)
    await_status(service, [C], "disabled")
    forget_neighbours(lab, C)
    lab.ifup(C)
    for name in both(lab, C):
        service.hotplug("ifup", name, lab.source(C).device)
    await_status(service, [C], "online")


def _silently(service: Service, _: int) -> None:
    service.lab.cut(C)
    await_status(service, [C], "offline")
    service.settled()
    service.lab.restore(C)
    await_status(service, [C], "online")


def _cable(service: Service, _: int) -> None:
    service.lab.carrier(C, False)
    await_status(service, [C], "disabled")
    forget_neighbours(service.lab, C)
    service.lab.carrier(C, True)
    await_status(service, [C], "online")


def _rule(service: Service, number: int) -> None:
    last = service.last()
    service.configure(text(service.lab, "" if number % 2 else "192.0.2.0/24"))
    service.hotplug("changed", "config")
    service.wait(lambda _: any(one["kind"] == "reconcile" and one["changed"] for one in service.events(last)), "a run")


def _killed(service: Service, _: int) -> None:
    service.kill()
    _started(service)


def _stopped(service: Service, _: int) -> None:
    assert service.stop() == 0, service.said()
    _started(service)


def _started(service: Service) -> None:
    time.sleep(0.2)
    service.start()
    await_status(service, [A, B, C], "online")


def _forced(service: Service, _: int) -> None:
    for state, status in (("down", "disabled"), ("auto", "online")):
        for name in both(service.lab, B):
            service.connbal("interface", "force", name, state)
        await_status(service, [B], status)


EVENTS: dict[str, Callable[[Service, int], None]] = {
    "C down and up, by netifd": _netifd,
    "C silent and back": _silently,
    "C without carrier and back": _cable,
    "a rule changed": _rule,
    "the daemon killed and started": _killed,
    "the daemon stopped and started": _stopped,
    "B forced down and back": _forced,
}
