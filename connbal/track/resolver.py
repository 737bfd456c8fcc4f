"""Host names, resolved through one interface: by its own name servers, over sockets that leave by it alone.

The system's resolver asks whom it likes, by whatever source works, and blocks. This one asks in the background: whoever
wants an address takes what is known, expired answers too when there are no newer ones, and never waits twice.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import os
import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from connbal.errors import KernelError
from connbal.frozen import dataclass
from connbal.kernel import files
from connbal.model.config import Family, IPAddress
from connbal.model.hosts import no_host
from connbal.track.api import Miss
from connbal.track.probes import dnswire, refusals
from connbal.track.probes.way import Way, connecting, miss

#: Where name servers are found when netifd names none for the interface: what netifd writes, and everyone's.
RESOLV_FILES = (Path("/tmp/resolv.conf.d/resolv.conf.auto"), Path("/etc/resolv.conf"))
MAX_SERVERS = 3
#: Bytes of a file that names servers.
MAX_FILE = 1 << 20
#: How often each server is asked, and how long, in seconds, it has before the next is asked too.
ROUNDS, PATIENCE = 2, 1.0
#: Seconds that all of it may take.
LIMIT = 5.0
#: Seconds an answer holds, whatever its TTL says.
MIN_TTL, MAX_TTL = 60, 3600
#: Seconds until it is tried again: after no answer; after the answer that there is no such name or address.
RETRY, RETRY_NONE = 2.0, 10.0
MAX_NAMES = 256
_PORT = 53


class NotResolved(Exception):
    """There is no address; the message says why, and ``miss`` what that means of the source."""

    def __init__(self, reason: str, miss: Miss = Miss.LOST) -> None:
        super().__init__(reason)
        self.miss = miss


@dataclass(frozen=True)
class Entry:
    """What is known of a name. Times are seconds of the monotonic clock."""

    addresses: tuple[str, ...] = ()  #: the last that were known
    reason: str = ""  #: why the last attempt failed
    ask_at: float = 0.0  #: not to be asked again before
    miss: Miss = Miss.LOST  #: what it means of the source that the last attempt failed


class Cache:
    """Names of one interface and family. Outlives its resolver, which changes with the interface's address."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def get(self, name: str) -> Entry | None:
        return self._entries.get(name)

    def put(self, name: str, entry: Entry) -> None:
        """The oldest entry goes when there are MAX_NAMES."""
        self._entries.pop(name, None)
        while len(self._entries) >= MAX_NAMES:
            del self._entries[next(iter(self._entries))]
        self._entries[name] = entry

    def ask_again(self) -> None:
        """Forget failures, as when a network has come up: every name may be asked for at once. Answers stay."""
        for name, entry in self._entries.items():
            self._entries[name] = replace(entry, ask_at=0.0)


def servers_in(text: str) -> list[str]:
    """The name servers that a file in the form of resolv.conf lists, without those on this machine."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            found.append(words[1])
    return usable(found)


def usable(servers: Iterable[str]) -> list[str]:
    """Addresses that can be asked through an interface, each once: none on this machine."""
    found: dict[str, None] = {}
    for server in servers:
        try:
            address = ipaddress.ip_address(server.partition("%")[0])
        except ValueError:
            continue
        if not (address.is_loopback or address.is_unspecified or address.is_multicast):
            found[str(address)] = None
    return list(found)


class Resolver:
    """Resolves names by one way out: A for IPv4, AAAA for IPv6.

    ``servers``: the interface's own, as netifd lists them; none: those in ``files``, of which the first that names any
    counts. Servers of the interface's family are asked first. ``local``: what an address is where this machine itself
    would answer at it, else nothing; it may raise OSError. Nobody is asked there.
    """

    def __init__(
        self,
        way: Way,
        servers: Sequence[str] = (),
        cache: Cache | None = None,
        *,
        files: Sequence[Path] = RESOLV_FILES,
        clock: Callable[[], float] = time.monotonic,
        local: Callable[[str], str] = lambda _: "",
    ) -> None:
        self._way, self._files, self._clock, self._local = way, tuple(files), clock, local
        self._own_servers = usable(servers)
        self.cache = cache if cache is not None else Cache()
        self._asking: dict[str, asyncio.Task[None]] = {}

    def known(self, name: str) -> tuple[str, ...]:
        """The addresses of a name as far as they are known now; asks in the background where that is due.

        Returns none where nothing is known yet and an answer may come: see :meth:`wait`.
        Raises NotResolved where there was none lately.
        """
        entry = self.cache.get(name)
        if entry is None or self._clock() >= entry.ask_at:
            self._ask(name)
        elif not entry.addresses:
            raise NotResolved(entry.reason, entry.miss)
        return entry.addresses if entry else ()

    def wait(self, name: str, then: Callable[[], None]) -> Callable[[], None]:
        """Call ``then`` once the question that is under way is over; returns what makes it not be called."""
        task = self._ask(name)

        def over(_: asyncio.Task[None]) -> None:
            then()

        def forget() -> None:
            task.remove_done_callback(over)

        task.add_done_callback(over)
        return forget

    async def resolve(self, name: str) -> tuple[str, ...]:
        """The addresses of a name, at least one, within LIMIT seconds. Raises NotResolved."""
        found = self.known(name)
        if not found:
            await asyncio.wait({self._ask(name)})
            entry = self.cache.get(name)
            found = entry.addresses if entry else ()
            if not found:
                raise NotResolved(entry.reason, entry.miss) if entry else NotResolved("given up")
        return found

    def close(self) -> None:
        """Give up what is under way; what is known stays in the cache."""
        for task in self._asking.values():
            task.cancel()
        self._asking.clear()

    def _ask(self, name: str) -> asyncio.Task[None]:
        """The question for a name that is under way, begun if there is none."""
        task = self._asking.get(name)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._refresh(name))
            self._asking[name] = task
            task.add_done_callback(functools.partial(self._over, name))
        return task

    def _over(self, name: str, task: asyncio.Task[None]) -> None:
        if self._asking.get(name) is task:
            del self._asking[name]

    async def _refresh(self, name: str) -> None:
        """Ask, and put what comes of it into the cache. An old answer outlives a question that failed, and one that
        names no host.
        """
        try:
            answer = await asyncio.wait_for(self._question(name), LIMIT)
        except NotResolved as error:
            self._failed(name, str(error), RETRY, error.miss)
            return
        except asyncio.TimeoutError:
            self._failed(name, "timeout", RETRY)
            return
        faults = {one: no_host(ipaddress.ip_address(one)) for one in answer.addresses}
        found = tuple(one for one, fault in faults.items() if not fault)
        if found:
            ttl = min(max(answer.ttl, MIN_TTL), MAX_TTL)
            self.cache.put(name, Entry(found, "", self._clock() + ttl))
        elif faults:
            address, fault = next(iter(faults.items()))
            self._failed(name, f"the answer is {address}, {fault}", RETRY_NONE, Miss.LEFT_OUT)
        else:
            none = "no such name" if answer.code == dnswire.NO_SUCH_NAME else f"no {self._way.family.value} address"
            self._failed(name, none, RETRY_NONE)

    def _failed(self, name: str, reason: str, again: float, what: Miss = Miss.LOST) -> None:
        entry = self.cache.get(name) or Entry()
        self.cache.put(name, replace(entry, reason=reason, ask_at=self._clock() + again, miss=what))

    def whom(self) -> list[IPAddress]:
        """Whom it asks, in this order. Raises NotResolved where this machine cannot tell now."""
        names = self._own_servers
        for file in self._files:
            if names:
                break
            try:
                names = servers_in(files.read(file, MAX_FILE) or "")
            except KernelError as error:
                why = error.__cause__
                if isinstance(why, OSError) and miss(why) is Miss.UNASKED:
                    raise NotResolved(self._way.words(why), Miss.UNASKED) from None
                continue
        addresses = [ipaddress.ip_address(name) for name in names]
        return sorted(addresses, key=lambda one: Family.of(one) is not self._way.family)[:MAX_SERVERS]

    async def _question(self, name: str) -> dnswire.Answer:
        """Ask the servers in turn, the next as soon as one has failed or is slow. The first good answer counts."""
        try:
            dnswire.labels(name)
        except ValueError as error:
            raise NotResolved(str(error)) from None
        queue = self._others() * ROUNDS
        pending: set[asyncio.Task[dnswire.Answer]] = set()
        failed = NotResolved("timeout")
        try:
            while queue or pending:
                if queue:
                    pending.add(asyncio.get_running_loop().create_task(self._ask_server(queue.pop(0), name)))
                patience = PATIENCE if queue else None
                done, pending = await asyncio.wait(pending, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    try:
                        return task.result()
                    except NotResolved as error:
                        failed = failed if failed.miss is Miss.UNASKED else error
        finally:
            for task in pending:
                task.cancel()
        raise failed

    def _others(self) -> list[IPAddress]:
        """The name servers that are not this machine. Raises NotResolved where there is none."""
        servers = self.whom()
        if not servers:
            raise NotResolved("no DNS server known")
        try:
            faults = {server: self._local(str(server)) for server in servers}
        except OSError as error:
            raise NotResolved(self._way.words(error), miss(error)) from None
        if all(faults.values()):
            raise NotResolved(f"DNS server {servers[0]} is {faults[servers[0]]}", Miss.LEFT_OUT)
        return [server for server, fault in faults.items() if not fault]

    async def _ask_server(self, server: IPAddress, name: str) -> dnswire.Answer:
        """One server's answer, if it is one. Raises NotResolved."""
        # A server of the other family leaves by the same device; which address it comes from is then the kernel's.
        family = Family.of(server)
        way = replace(self._way, family=family, source=self._way.source if family is self._way.family else None)
        try:
            way = way.settled()
            answer = await _exchange(way, str(server), name, dnswire.ADDRESS_KIND[self._way.family.version])
        except OSError as error:
            raise NotResolved(f"{server}: {way.words(error)}", miss(error)) from None
        except (dnswire.BadMessage, EOFError) as error:
            raise NotResolved(f"{server}: {error}") from None
        if answer.code not in (dnswire.NO_ERROR, dnswire.NO_SUCH_NAME):
            raise NotResolved(f"{server}: {dnswire.code_words(answer.code)}")
        return answer


async def _exchange(way: Way, server: str, name: str, kind: int) -> dnswire.Answer:
    """Ask by UDP, and by TCP what does not fit. Raises OSError, BadMessage, EOFError; waits without limit."""
    loop = asyncio.get_running_loop()
    ident = int.from_bytes(os.urandom(2), "big")
    query = dnswire.query(ident, name, kind)
    with way.socket(socket.SOCK_DGRAM) as sock:
        refusals.listen(sock, way.family)
        sock.connect(way.sockaddr(server, _PORT))
        refusals.send(sock, way.family, query)
        while True:
            try:
                answer = dnswire.parse(await loop.sock_recv(sock, 4096), ident, name, kind)
                break
            except dnswire.BadMessage:
                continue  # forged, or late: the real one may still come
            except OSError as error:
                refusal = refusals.read(sock, way.family)
                if miss(error) is Miss.UNASKED or (refusal is not None and refusal.about(query)):
                    raise
                # The same holds for a refusal that quotes nothing of what was asked.
    return await _exchange_tcp(way, server, name, kind) if answer.truncated else answer


async def _exchange_tcp(way: Way, server: str, name: str, kind: int) -> dnswire.Answer:
    loop = asyncio.get_running_loop()
    ident = int.from_bytes(os.urandom(2), "big")
    query = dnswire.query(ident, name, kind)
    with way.socket(socket.SOCK_STREAM) as sock:
        try:
            await loop.sock_connect(sock, way.sockaddr(server, _PORT))
        except OSError as error:
            raise connecting(error) from None
        await loop.sock_sendall(sock, struct.pack("!H", len(query)) + query)
        (size,) = struct.unpack("!H", await _receive(sock, 2))
        return dnswire.parse(await _receive(sock, size), ident, name, kind)


async def _receive(sock: socket.socket, size: int) -> bytes:
    """Exactly ``size`` bytes. Raises OSError, EOFError."""
    data = b""
    while len(data) < size:
        chunk = await asyncio.get_running_loop().sock_recv(sock, size - len(data))
        if not chunk:
            raise EOFError("the connection ended early")
        data += chunk
    return data
