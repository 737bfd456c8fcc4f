"""httping, plain and (``httping_ssl``) over TLS: connect, HEAD, and any HTTP answer counts. Both families.

Certificates are not verified. The question is whether the source carries traffic to the host, not whether to trust it:
a router whose clock is wrong after a power cut, or that has no certificates installed, must not lose its Internet.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from typing import TYPE_CHECKING, Any

from connbal.track.api import Miss
from connbal.track.probes.method import Cancel, Done, Method, Target
from connbal.track.probes.way import connecting, miss

if TYPE_CHECKING:
    import ssl

HTTP_PORT, HTTPS_PORT = 80, 443
_ENOUGH = len(b"HTTP/1.1 200")


def request(host: str) -> bytes:
    """The question, for a host as configured: a name or an address."""
    name = f"[{host}]" if ":" in host else host
    lines = ("HEAD / HTTP/1.1", f"Host: {name}", "User-Agent: connbal", "Accept: */*", "Connection: close")
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii", "replace")


def is_answer(data: bytes) -> bool:
    """Whether this is how an HTTP answer begins: version, blank, three digits."""
    version, _, rest = data.partition(b" ")
    return version.startswith(b"HTTP/") and rest[:3].isdigit() and len(rest) >= 3


@functools.lru_cache(maxsize=1)
def tls_context() -> ssl.SSLContext:
    """TLS without verification; made once, as that takes milliseconds. Raises ImportError where Python has no TLS."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Http(Method):
    """One request, one connection."""

    def __init__(self, tls: bool = False) -> None:
        super().__init__()
        self._tls = tls
        self._running: set[asyncio.Task[None]] = set()  # the loop itself holds tasks only weakly

    def close(self) -> None:
        super().close()
        for task in self._running:
            task.cancel()

    def probe(self, target: Target, done: Done) -> Cancel:
        sock = self.way.socket(socket.SOCK_STREAM)
        task = self.loop().create_task(self._ask(sock, target, done))
        # A task that is cancelled before its first step never gets to close anything.
        task.add_done_callback(lambda _: sock.close())
        task.add_done_callback(self._running.discard)
        self._running.add(task)
        return task.cancel

    async def _ask(self, sock: socket.socket, target: Target, done: Done) -> None:
        way, what = self.way, Miss.LOST
        try:
            reason = await self._exchange(sock, way.sockaddr(target.address, HTTPS_PORT if self._tls else HTTP_PORT),
                                          target)  # fmt: skip
        except ImportError:
            reason = "no TLS: Python's module ssl is not installed"
        except ValueError as error:
            reason = f"no HTTP answer: {error}"
        except OSError as error:
            # An SSLError is an OSError whose number is not the system's.
            if type(error).__module__ == "ssl":
                reason = f"TLS: {error.args[-1]}"
            else:
                error = connecting(error)
                reason, what = way.words(error), miss(error)
        done(reason, self.loop().time(), what)

    async def _exchange(self, sock: socket.socket, address: Any, target: Target) -> str:
        context = tls_context() if self._tls else None
        await self.loop().sock_connect(sock, address)
        name = target.host if context else None
        reader, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname=name)
        try:
            writer.write(request(target.host))
            data = b""
            while len(data) < _ENOUGH and (chunk := await reader.read(_ENOUGH)):
                data += chunk
        finally:
            # Not close: over TLS that would wait for the other end to agree.
            writer.transport.abort()
        if is_answer(data):
            return ""
        return "no HTTP answer" if data else "connection closed without an answer"
