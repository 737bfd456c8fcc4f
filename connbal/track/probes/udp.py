"""nping-udp: a datagram to a port where nobody listens; nslookup: a DNS query to the host. Both families.

A port of ours can be hit blindly: a flood of 28,000 packets from a forged address meets every port there is to choose.
So what comes counts only where it repeats something of what was sent that cannot be guessed.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from connbal.track.api import Miss
from connbal.track.probes import dnswire, refusals
from connbal.track.probes.icmp import TOKEN, payload
from connbal.track.probes.method import Cancel, Done, Method, Target
from connbal.track.probes.way import miss

#: nping's own port: hosts answer that nobody is there.
UDP_PORT = 40125
DNS_PORT = 53
#: The question mwan3 asks. Whoever answers for the Internet can answer it, in few bytes.
QUESTION = "www.google.com"

#: Judges a datagram: None: not about this probe; "": an answer; else why it does not count.
Judge = Callable[[bytes], str | None]


class Datagram(Method):
    """A datagram of random content to ``port``. What counts is the same content from there, or the host's own word,
    quoting it, that the port is closed.
    """

    port = UDP_PORT

    def question(self, target: Target) -> tuple[bytes, Judge]:
        """What to send, and what to make of the answer."""
        sent = payload(max(target.size, TOKEN))
        return sent, lambda data: "" if data == sent else None

    def probe(self, target: Target, done: Done) -> Cancel:
        way, loop = self.way, self.loop()
        sock = way.socket(socket.SOCK_DGRAM)
        sent, judge = self.question(target)

        def cancel() -> None:
            if sock.fileno() >= 0:
                loop.remove_reader(sock.fileno())
                sock.close()

        def readable() -> None:
            try:
                reason, what = self._read(sock, target, sent, judge), Miss.LOST
            except OSError as error:
                reason, what = way.words(error), miss(error)
            if reason is not None:
                cancel()
                done(reason, loop.time(), what)

        try:
            refusals.listen(sock, way.family)
            sock.connect(way.sockaddr(target.address, self.port))
            refusals.send(sock, way.family, sent)
            loop.add_reader(sock.fileno(), readable)
        except OSError:
            sock.close()
            raise
        return cancel

    def _read(self, sock: socket.socket, target: Target, sent: bytes, judge: Judge) -> str | None:
        """What has come in: an answer, a refusal, or (None) nothing of use yet. Raises OSError: a trouble here."""
        refusal = refusals.read(sock, self.way.family)
        if refusal is not None and refusal.about(sent):
            # A router in between may say "port unreachable" too: only the host's own word shows that it is there.
            reached = refusal.port_unreachable(self.way.family) and refusal.offender == target.address
            return self.closed() if reached else refusals.words(refusal, self.way)
        try:
            return judge(sock.recv(max(len(sent) + 1, 2048)))
        except BlockingIOError:
            return None
        except OSError as error:
            if miss(error) is Miss.UNASKED:
                raise
            return None  # a refusal that proves nothing shows here as well

    def closed(self) -> str:
        """What it means that the host is there and the port is closed."""
        return ""


class Nslookup(Datagram):
    """A DNS query to the host.

    Only "here it is" and "there is no such name" count: a modem's own name server says "server failure" or "refused"
    when it has lost the Internet.
    """

    port = DNS_PORT

    def question(self, target: Target) -> tuple[bytes, Judge]:
        ident = int.from_bytes(os.urandom(2), "big")
        query = dnswire.query(ident, QUESTION, dnswire.A)

        def judge(data: bytes) -> str | None:
            code = dnswire.answered(data, ident, QUESTION, dnswire.A)
            if code is None or code in (dnswire.NO_ERROR, dnswire.NO_SUCH_NAME):
                return None if code is None else ""
            return f"DNS answers: {dnswire.code_words(code)}"

        return query, judge

    def closed(self) -> str:
        return "refused"
