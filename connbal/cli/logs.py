"""What the daemon says, and where: to syslog or to standard error, a line for each message, and never a flood."""

from __future__ import annotations

import logging
import os
import socket
import stat
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

from connbal.errors import UsageError
from connbal.frozen import dataclass
from connbal.model.config import LOG_LEVELS

#: Between INFO and WARNING: of interest to everybody, and nothing is wrong.
NOTICE = 25
logging.addLevelName(NOTICE, "NOTICE")

#: Syslog's level -> the number :mod:`logging` has for it, highest first.
LEVELS = {
    "emerg": 70, "alert": 60, "crit": logging.CRITICAL, "error": logging.ERROR, "warning": logging.WARNING,
    "notice": NOTICE, "info": logging.INFO, "debug": logging.DEBUG,
}  # fmt: skip
TARGETS = ("auto", "syslog", "stderr")

DEV_LOG = "/dev/log"
_FACILITY_DAEMON = 3 << 3
#: Characters of one message, before any is escaped; one that is longer loses its middle.
MAX_LENGTH = 4096

#: Whose messages these are: connbal's, and what asyncio says of errors that nobody caught.
_LOGGERS = ("connbal", "asyncio")


def set_up(target: str, level: str, *, address: str = DEV_LOG) -> None:
    """Send what connbal logs to its place, in place of where it went before.

    Parameters
    ----------
    target: one of TARGETS; ``auto``: syslog where there is one, unless standard error is a terminal.
    level: one of LEVELS; what is less urgent is left out. With ``debug`` errors show where they came from.
    address: syslog's socket.

    Raises UsageError: there is no such target or level.
    """
    if target not in TARGETS:
        raise UsageError(f"log target {target!r}: take one of {', '.join(TARGETS)}")
    if level not in LEVELS:
        raise UsageError(f"log level {level!r}: take one of {', '.join(LEVELS)}")
    terminal = sys.stderr is not None and sys.stderr.isatty()
    if target == "auto":
        target = "syslog" if not terminal and _is_socket(address) else "stderr"
    handler: logging.Handler = Syslog(address) if target == "syslog" else Stderr()
    form = "{text}" if target == "syslog" else "{clock} {level} {text}" if terminal else "{level}: {text}"
    handler.setFormatter(Formatter(form, tracebacks=level == "debug"))
    handler.addFilter(RateLimit())
    for name in _LOGGERS:
        _replace_handlers(logging.getLogger(name), handler)
    logging.getLogger("connbal").setLevel(LEVELS[level])
    logging.getLogger("asyncio").setLevel(max(LEVELS[level], logging.WARNING))
    logging.raiseExceptions = False  # a log that cannot be written is no reason to say so in the same place


def notice(logger: logging.Logger, msg: str, *args: object) -> None:
    """Log at syslog's level ``notice``."""
    logger.log(NOTICE, msg, *args, stacklevel=2)


def level_name(number: int) -> str:
    """Syslog's name for a level of :mod:`logging`."""
    return next((name for name, least in LEVELS.items() if number >= least), "debug")


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _replace_handlers(logger: logging.Logger, handler: logging.Handler) -> None:
    logger.propagate = False
    for old in list(logger.handlers):
        logger.removeHandler(old)
        old.close()
    logger.addHandler(handler)


def visible(text: str) -> str:
    """A text with everything that is not to be seen, or moves the cursor, written as an escape: a line stays one."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


class Formatter(logging.Formatter):
    """One record, one line. ``form`` has ``{text}``, ``{level}`` and ``{clock}`` (local time, HH:MM:SS)."""

    def __init__(self, form: str, *, tracebacks: bool = False) -> None:
        super().__init__()
        self._form, self._tracebacks = form, tracebacks

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            said = ": ".join(filter(None, (type(error).__name__, str(error))))
            text += f"\n{self.formatException(record.exc_info)}" if self._tracebacks else f": {said}"
        if len(text) > MAX_LENGTH:
            text = f"{text[: MAX_LENGTH // 2]} ... {text[-MAX_LENGTH // 2 :]}"
        text = visible(text)
        held_back = getattr(record, "held_back", 0)
        if held_back:
            text += f" ({held_back} similar not shown)"
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        return self._form.format(text=text, level=level_name(record.levelno), clock=clock)


class Syslog(logging.Handler):
    """Sends records to the local syslog, as its facility ``daemon``.

    There is no connection, so one that is restarted is found again by itself. What it does not take at once is lost:
    nobody waits for a log.
    """

    def __init__(self, address: str = DEV_LOG) -> None:
        super().__init__()
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            priority = _FACILITY_DAEMON | LOG_LEVELS[level_name(record.levelno)]
            line = f"<{priority}>connbal[{os.getpid()}]: {self.format(record)}"
            with suppress(OSError):
                self._socket.sendto(line.encode(), self._address)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        self._socket.close()
        super().close()


class Stderr(logging.Handler):
    """Sends records to standard error. What that does not take at once is lost: nobody waits for a log.

    A pipe or a socket whose reader has stopped reading, or a terminal that was told to pause, would hold up whoever
    writes. The flag for that is everybody's who has the same standard error, so it is opened once more with it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._stream = sys.stderr
        self._own: int | socket.socket | None = None
        with suppress(OSError, AttributeError, ValueError):  # no file at all, or nobody may: then as it is
            number = self._stream.fileno()
            kind = os.fstat(number).st_mode
            if stat.S_ISSOCK(kind):
                self._own = socket.socket(fileno=os.dup(number))
            elif stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):
                flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
                self._own = os.open(f"/proc/self/fd/{number}", flags)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write(f"{self.format(record)}\n")
        except OSError:
            pass  # no room
        except Exception:
            self.handleError(record)

    def _write(self, line: str) -> None:
        data = line.encode("utf-8", "backslashreplace")
        if isinstance(self._own, socket.socket):
            self._own.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        elif self._own is not None:
            os.write(self._own, data)
        elif self._stream is not None:
            self._stream.write(line)
            self._stream.flush()

    def close(self) -> None:
        own, self._own = self._own, None
        if isinstance(own, socket.socket):
            own.close()
        elif own is not None:
            os.close(own)
        super().close()


@dataclass
class _Bucket:
    tokens: float
    filled: float  #: when, on the clock
    held_back: int = 0


class RateLimit(logging.Filter):
    """Lets messages of one kind, that is of one logger and template, pass only so often.

    The one that passes after some that did not carries their number as ``held_back``, for :class:`Formatter`.

    Parameters
    ----------
    burst: messages of one kind that may come at once.
    every: seconds until one more may.
    kinds: how many are remembered; the one that has been silent for longest is forgotten first.
    clock: seconds of a clock that never goes back.
    """

    def __init__(
        self, burst: int = 10, every: float = 6.0, kinds: int = 512, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._burst, self._every, self._kinds, self._clock = burst, every, kinds, clock
        self._buckets: OrderedDict[tuple[str, str], _Bucket] = OrderedDict()
        self._lock = threading.RLock()  # one that logs while it is interrupted in here must not wait for itself

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.name, str(record.msg)[:256]
        with self._lock:
            now = self._clock()
            bucket = self._buckets.setdefault(kind, _Bucket(self._burst, now))
            self._buckets.move_to_end(kind)
            if len(self._buckets) > self._kinds:
                self._buckets.popitem(last=False)
            bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.filled) / self._every)
            bucket.filled = now
            if bucket.tokens < 1:
                bucket.held_back += 1
                return False
            bucket.tokens -= 1
            record.held_back, bucket.held_back = bucket.held_back, 0
            return True
