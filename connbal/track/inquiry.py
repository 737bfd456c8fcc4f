"""Asks what is at the other end of sources: gateways, DNS servers, track hosts; all at once, bounded in time."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from connbal.model.config import Family, Interface, TrackMethod
from connbal.track.api import HostResult
from connbal.track.evidence import Answers
from connbal.track.probes.prober import Prober
from connbal.track.probes.way import Way
from connbal.track.resolver import NotResolved, Resolver
from connbal.uci.decode_match import is_address

#: Seconds that all of it may take.
LIMIT = 12.0
#: A lost packet is no fault: each host is asked so often, and each time waited for at most so many seconds.
PROBES, PATIENCE = 2, 4.0
#: What servers are asked for where track_ip names nothing: a name that exists for ever (RFC 6761, 6.5).
NAME = "example.com"
#: Answers of a server that has no address for a name: it has answered all the same.
_ANSWERED = ("no such name", "no ipv4 address", "no ipv6 address")


@dataclass(frozen=True)
class Question:
    """How to ask by one source, and whom."""

    interface: Interface
    device: str
    mark: int  #: the interface's own
    gateway: str | None = None
    servers: tuple[str, ...] = ()  #: DNS servers of its own


def ask(questions: Mapping[str, Question]) -> dict[str, Answers]:
    """What answers by each source, within LIMIT seconds. ``questions``: by interface."""
    return asyncio.run(_ask(questions))


async def _ask(questions: Mapping[str, Question]) -> dict[str, Answers]:
    loop = asyncio.get_running_loop()
    tasks = {name: loop.create_task(_answers(question)) for name, question in questions.items()}
    _, pending = await asyncio.wait(tasks.values(), timeout=LIMIT)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    return {name: _result(task, questions[name]) for name, task in tasks.items()}


def _result(task: asyncio.Task[Answers], question: Question) -> Answers:
    if not task.cancelled():
        return task.result()
    late = f"no answer within {LIMIT:g} s"
    hosts = tuple(HostResult(host, False, reason=late) for host in question.interface.track_ip)
    gateway = HostResult(question.gateway, False, reason=late) if question.gateway else None
    return Answers(gateway, tuple(HostResult(host, False, reason=late) for host in question.servers), hosts)


async def _answers(question: Question) -> Answers:
    interface = replace(question.interface, count=PROBES, timeout=min(max(question.interface.timeout, 1.0), PATIENCE))
    with contextlib.closing(
        Prober(question.device, interface.family, question.mark, servers=question.servers)
    ) as prober:
        gateway, servers, hosts = await asyncio.gather(
            _gateway(prober, interface, question.gateway), _servers(question), prober.run(interface)
        )
    return Answers(gateway, servers, hosts.results)


async def _gateway(prober: Prober, interface: Interface, gateway: str | None) -> HostResult | None:
    """Whether the gateway is on the link; where that is no Ethernet, whether it answers a ping, of which a no means
    nothing.
    """
    if gateway is None or Family.of(ipaddress.ip_address(gateway)) is not interface.family:
        return None
    (found,) = (await prober.run(replace(interface, track_method=TrackMethod.ARPING), [gateway])).results
    if found.answered or "no Ethernet" not in found.reason:
        return found
    (found,) = (await prober.run(replace(interface, track_method=TrackMethod.PING), [gateway])).results
    return found if found.answered else None


async def _servers(question: Question) -> tuple[HostResult, ...]:
    """Whether each DNS server answers; the system's, where the source has none of its own but a name to resolve."""
    family = question.interface.family
    way = Way(question.device, family, question.mark)
    names = [host for host in question.interface.track_ip if not is_address(host)]
    name = names[0] if names else NAME
    servers: Sequence[str] = question.servers
    if not servers and names:
        with contextlib.suppress(NotResolved):
            servers = [str(server) for server in Resolver(way).whom()]
    return tuple(await asyncio.gather(*(_server(way, server, name) for server in servers)))


async def _server(way: Way, server: str, name: str) -> HostResult:
    resolver = Resolver(way, [server], files=())
    try:
        await resolver.resolve(name)
    except NotResolved as error:
        reason = str(error)
        return HostResult(server, reason in _ANSWERED, reason=reason.removeprefix(f"{server}: "))
    finally:
        resolver.close()
    return HostResult(server, True)
