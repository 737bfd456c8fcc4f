"""What systemd is told: that the daemon is ready, what it is about, and that it is alive (sd_notify(3)).

Nothing where nobody asks for it, as under procd. A message is one datagram. None of them is waited for: what cannot be
sent now is sent with the next one.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Collection, MutableMapping

#: Seconds after which a run is taken to hang: more than all time limits of the programs it starts come to, one after
#: the other. Then the daemon no longer says that it is alive.
HUNG = 300.0
#: Seconds between two messages where nobody says after how many the daemon is taken for dead.
BEAT = 10.0
#: Bytes of what the daemon is about; systemd cuts it anywhere.
LONGEST = 400


class Notify:
    """Tells whoever is named in ``NOTIFY_SOCKET``. Programs started later do not find the name any more.

    Parameters
    ----------
    busy: for how many seconds the run has lasted that is under way; 0: there is none.
    environment: of this process. ``NOTIFY_SOCKET`` (a path, or ``@`` and an abstract name), ``WATCHDOG_USEC`` (after
        how many microseconds without a word it is taken for dead) and ``WATCHDOG_PID`` are taken out of it.
    """

    def __init__(self, busy: Callable[[], float], environment: MutableMapping[str, str] = os.environ) -> None:
        named = environment.pop("NOTIFY_SOCKET", "")
        limit, pid = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
        self._busy = busy
        self._unsent: dict[str, str] = {}
        self._status = ""
        self._ready = False
        self._socket: socket.socket | None = None
        watched = limit.isdecimal() and int(limit) > 0 and pid in ("", str(os.getpid()))
        #: Seconds between two calls of :meth:`beat`.
        self.period = int(limit) / 2_000_000 if watched else BEAT
        if named[:1] in ("/", "@") and named[1:]:
            self._address = named if named[0] == "/" else f"\0{named[1:]}"
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        if self._socket is not None and watched:
            # systemd ends what is taken for dead by SIGABRT: then the log says where each thread was.
            import faulthandler

            faulthandler.enable()

    def beat(self) -> None:
        """The loop is alive. To be called every :attr:`period` seconds; not told while a run hangs."""
        self._send("WATCHDOG=1" if self._busy() < HUNG else "")

    def ran(self, causes: Collection[str], error: str, online: Collection[str], sources: Collection[str]) -> None:
        """A run is over, the first of which makes the daemon ready, whatever came of it; ``error``: it failed."""
        if not self._ready or "SIGHUP" in causes:
            self._unsent["state"] = "READY=1"
        self._ready = True
        self._about(words(error, online, sources))

    def reloading(self) -> None:
        """Somebody has asked for the configuration to be read again. It is over with the next run."""
        if self._ready:
            # What systemd wants since 253, in case the unit says Type=notify-reload.
            self._unsent["state"] = f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"
            self._send()

    def stopping(self) -> None:
        """The daemon is about to end."""
        self._unsent["state"] = "STOPPING=1"
        self._about("stopping; connections keep flowing until connbal stop")

    def close(self) -> None:
        """Say nothing any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _about(self, status: str) -> None:
        if status != self._status:
            self._status = status
            self._unsent["status"] = f"STATUS={status}"
        self._send()

    def _send(self, more: str = "") -> None:
        lines = [*self._unsent.values(), *filter(None, [more])]
        if self._socket is None or not lines:
            return
        try:
            self._socket.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)
        except OSError:
            return
        self._unsent.clear()


def words(error: str, online: Collection[str], sources: Collection[str]) -> str:
    """What the daemon is about, in one short line: systemd takes each line for a message of its own. Pure."""
    names = ", ".join(name for name in sources if name in online)
    whole = f"{len(online)} of {len(sources)} sources online{': ' if names else ''}{names}"
    if error:
        whole = f"the last run failed: {' '.join(error.split())}; {whole}"
    return whole if len(whole) <= LONGEST else f"{whole[: LONGEST - 3]}..."
