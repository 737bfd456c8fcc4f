"""nping-tcp: a TCP connection to port 80, both families. A refusal shows just as well that the host is there."""

from __future__ import annotations

import errno
import socket
import struct

from connbal.track.probes import refusals
from connbal.track.probes.method import Cancel, Done, Method, Target
from connbal.track.probes.way import connecting, miss

#: nping's own port.
TCP_PORT = 80
_IN_PROGRESS = (0, errno.EINPROGRESS)


class Connect(Method):
    """Opens a connection and drops it at once."""

    def probe(self, target: Target, done: Done) -> Cancel:
        way, loop = self.way, self.loop()
        sock = way.socket(socket.SOCK_STREAM)

        def cancel() -> None:
            if sock.fileno() >= 0:
                loop.remove_writer(sock.fileno())
                sock.close()

        def finish(code: int) -> None:
            if sock.fileno() >= 0:
                reason = self._reason(sock, code, target)
                cancel()
                done(reason, loop.time(), miss(OSError(code, "")))

        try:
            refusals.listen(sock, way.family)
            # Closing sends RST: neither end has to remember the connection.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
            code = sock.connect_ex(way.sockaddr(target.address, TCP_PORT))
            if code not in (*_IN_PROGRESS, errno.ECONNREFUSED):
                raise connecting(OSError(code, "connect"))
            if code in _IN_PROGRESS:
                loop.add_writer(sock.fileno(), lambda: finish(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)))
        except OSError:
            sock.close()
            raise
        if code not in _IN_PROGRESS:
            loop.call_soon(finish, code)
        return cancel

    def _reason(self, sock: socket.socket, code: int, target: Target) -> str:
        """Why the connection did not show that the host is there; empty: it did."""
        if not code:
            return ""
        refusal = refusals.read(sock, self.way.family)
        if refusal is None:
            return "" if code == errno.ECONNREFUSED else self.way.words(OSError(code, ""))
        # The refusal came as an ICMP message, not as RST: then it depends on who sent it.
        reached = refusal.port_unreachable(self.way.family) and refusal.offender == target.address
        return "" if reached else refusals.words(refusal, self.way)
