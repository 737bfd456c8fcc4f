"""One round of probes of one interface: all hosts at once, each as often as ``count`` says, bounded in time."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import ipaddress
from collections.abc import Callable, Sequence, Set

from connbal.kernel.api import TransientError
from connbal.kernel.own import OwnAddresses
from connbal.model.config import Family, Interface, IPAddress, TrackMethod
from connbal.model.hosts import no_host
from connbal.track.api import HostResult, Miss, Round
from connbal.track.probes.arp import Arp
from connbal.track.probes.host import HostRun
from connbal.track.probes.http import Http
from connbal.track.probes.icmp import Echo
from connbal.track.probes.method import Method
from connbal.track.probes.neighbour import Neighbour
from connbal.track.probes.tcp import Connect
from connbal.track.probes.udp import Datagram, Nslookup
from connbal.track.probes.way import Way, miss
from connbal.track.quality import verdict
from connbal.track.resolver import Cache, NotResolved, Resolver


class Prober:
    """Probes the hosts of one interface in one family.

    ``device``: where probes leave. ``mark``: the interface's own (``MarkSpace.mark(id)``), see
    :mod:`connbal.track.probes.way`. ``source``: its address; None: the first fit one of the device at each round.
    ``servers``: name servers of the interface; none: the system's. ``cache``: names already known, to be kept by the
    caller where the prober is made anew. Belongs to the event loop it is first used in; to be closed at the end.
    """

    def __init__(
        self,
        device: str,
        family: Family,
        mark: int = 0,
        source: IPAddress | None = None,
        *,
        servers: Sequence[str] = (),
        cache: Cache | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self._way = Way(device, family, mark, source)
        self._own = OwnAddresses()
        local = functools.partial(self._local, self._way)
        self._resolver = resolver or Resolver(self._way, servers, cache, local=local)
        self._methods: dict[tuple[TrackMethod, bool], Method] = {}

    @property
    def family(self) -> Family:
        return self._way.family

    async def run(
        self,
        interface: Interface,
        hosts: Sequence[str] | None = None,
        decided: Callable[[Round], None] | None = None,
    ) -> Round:
        """Probe ``hosts`` (None: ``interface.track_ip``) as ``interface`` says.

        Ends after ``count`` x ``timeout`` seconds at the latest. Never raises for what the network, a device or a
        name does, nor for what this machine is short of: that is in the results, which are in the order of ``hosts``.

        ``decided`` is called, at most once, as soon as the hosts that are over decide whether the round is good while
        others are still under way: with those others as skipped. What is returned then has the others' results, and
        the ones that were told as skipped. It must not raise. With ``check_quality`` no round is decided early: loss
        and latency over a window judge it, not who answered.
        """
        loop = asyncio.get_running_loop()
        hosts = interface.track_ip if hosts is None else hosts
        try:
            way = self._way.settled()
            method = self._method(interface)
            method.prepare(way)
        except OSError as error:
            reason, what = self._way.words(error), miss(error)
            return Round(tuple(HostResult(host, False, reason=reason, miss=what) for host in hosts), loop.time())
        done: asyncio.Future[None] = loop.create_future()
        told: set[HostRun] = set()

        def over() -> None:
            if done.done():
                return
            ended = {run for run in runs if run.is_over}
            if len(ended) == len(runs):
                done.set_result(None)
            elif decided is not None and not told and _is_decided(interface, ended, len(runs)):
                told.update(ended)
                decided(_round(runs, told, loop.time()))

        local = functools.partial(self._local, way)
        runs = [HostRun(host, interface, method, way.words, over, local) for host in hosts]
        with contextlib.ExitStack() as cleanup:
            for run in runs:
                cleanup.callback(run.stop)
                self._begin(run, cleanup, local)
            if runs:
                await done
        return _round(runs, set(runs) - told, loop.time())

    def close(self) -> None:
        """Close every socket and give up every question for a name. Rounds that are under way get no more answers."""
        for method in self._methods.values():
            method.close()
        self._methods.clear()
        self._resolver.close()
        self._own.close()

    def _local(self, way: Way, address: str) -> str:
        """What an address is where no other machine would answer; empty: a host may be there. Raises OSError."""
        found = ipaddress.ip_address(address)
        try:
            # By lo nobody else is reached in any case: whoever probes by it means this machine.
            if way.device == "lo" or no_host(found):
                return no_host(found)
            index = way.index or (way.settled().index if found.is_link_local else 0)
            return self._own.whose(found, index)
        except TransientError as error:
            raise OSError(errno.EAGAIN, str(error)) from error

    def _method(self, interface: Interface) -> Method:
        key = (interface.track_method, interface.httping_ssl)
        if key not in self._methods:
            self._methods[key] = make(*key, self.family)
        return self._methods[key]

    def _begin(self, run: HostRun, cleanup: contextlib.ExitStack, local: Callable[[str], str]) -> None:
        """Start probing a host as soon as its address is known."""
        try:
            address = literal(run.host)
        except ValueError:
            self._begin_by_name(run, cleanup, local)
            return
        if Family.of(address) is not self.family:
            run.fail(f"not an {_FAMILY_WORDS[self.family]} address")
        else:
            run.begin(str(address))

    def _begin_by_name(
        self, run: HostRun, cleanup: contextlib.ExitStack | None, local: Callable[[str], str]
    ) -> None:
        try:
            found = self._resolver.known(run.host)
            # Where all of them are this machine, the run says so.
            address = next((one for one in found if not local(one)), found[0] if found else "")
        except NotResolved as error:
            run.fail(f"name not resolved: {error}", error.miss)
            return
        except OSError as error:
            run.fail(self._way.words(error), miss(error))
            return
        if address:
            run.begin(address)
        elif cleanup is None:
            run.fail("name not resolved: given up")
        else:
            cleanup.callback(self._resolver.wait(run.host, lambda: self._begin_by_name(run, None, local)))
            timer = asyncio.get_running_loop().call_at(run.deadline, run.fail, "name not resolved: timeout")
            cleanup.callback(timer.cancel)


def _is_decided(interface: Interface, ended: Set[HostRun], hosts: int) -> bool:
    """Whether a round is good or bad whatever the hosts that are not over yet will say."""
    if interface.check_quality:
        return False
    misses = [run.miss for run in ended]
    decided = verdict(
        interface.reliability, hosts, misses.count(None),
        left_out=misses.count(Miss.LEFT_OUT), unasked=misses.count(Miss.UNASKED), pending=hosts - len(ended),
    )  # fmt: skip
    return decided is not None


def _round(runs: Sequence[HostRun], reported: Set[HostRun], at: float) -> Round:
    """The results of ``reported``, with all others as skipped."""
    return Round(
        tuple(run.result() if run in reported else HostResult(run.host, False, skipped=True) for run in runs), at
    )


@functools.lru_cache(maxsize=1024)
def literal(host: str) -> IPAddress:
    """A host that is an address, without the scope: that is the prober's device. Raises ValueError."""
    return ipaddress.ip_address(host.partition("%")[0])


def make(method: TrackMethod, tls: bool, family: Family) -> Method:
    """What probes by a method."""
    if method in (TrackMethod.ARPING, TrackMethod.NPING_ARP):
        return Arp() if family is Family.IPV4 else Neighbour()
    if method is TrackMethod.HTTPING:
        return Http(tls)
    return _PLAIN[method]()


_PLAIN: dict[TrackMethod, type[Method]] = {
    TrackMethod.PING: Echo,
    TrackMethod.NPING_ICMP: Echo,
    TrackMethod.NSLOOKUP: Nslookup,
    TrackMethod.NPING_TCP: Connect,
    TrackMethod.NPING_UDP: Datagram,
}
_FAMILY_WORDS = {Family.IPV4: "IPv4", Family.IPV6: "IPv6"}
