"""The errors connbal raises on purpose, and the findings it reports.

An *error* ends what was asked for; a *finding* is about one section or option of the configuration and lets
everything else go on. Both say what is wrong, where it is, and what to do about it.
"""

from __future__ import annotations

import enum
from typing import ClassVar

from connbal.frozen import dataclass


class ConnbalError(Exception):
    """Base of every error connbal raises on purpose. ``str()`` is a complete sentence for the user.

    ``kind`` says the same of every error of its class, to programs; stable.
    """

    kind: ClassVar[str] = "failed"


def printable(text: str) -> str:
    """What an error says, without anything that a terminal would obey: names and values in it may be anybody's."""
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text)


class UsageError(ConnbalError):
    """The caller asked for something that makes no sense, such as an interface that does not exist."""

    kind = "usage"


class ConfigError(ConnbalError):
    """A configuration that cannot be read or written.

    Parameters
    ----------
    package: UCI package, the name of the file in the configuration directory (``mwan3``).
    section, option: what it is about; None where it is about the whole file or section.
    why: what is wrong and what would be right, without the place.
    line: 1-based line in the file, where known.
    """

    kind = "config"

    def __init__(
        self, package: str, section: str | None, option: str | None, why: str, *, line: int | None = None
    ) -> None:
        self.package, self.section, self.option, self.why, self.line = package, section, option, why, line
        place = ".".join(part for part in (package, section, option) if part)
        if line is not None:
            place += f", line {line}"
        super().__init__(f"{place}: {why}")


class KernelError(ConnbalError):
    """The kernel, or a program that talks to it, refused what was asked.

    Parameters
    ----------
    command: what was run or asked for, as the user would type it (``iptables-restore``, ``ip rule add``).
    line: the line of the input that was refused, or None where that is not known.
    output: what the kernel or the program answered, untouched.
    lineno: 1-based number of that line in the input, where known.
    """

    kind = "kernel"

    def __init__(self, command: str, line: str | None, output: str, *, lineno: int | None = None) -> None:
        self.command, self.line, self.output, self.lineno = command, line, output, lineno
        text = f"{command}: {output.strip() or 'failed'}"
        if line is not None:
            text += f" (at: {line})"
        super().__init__(text)


class Severity(enum.Enum):
    """How much a finding costs the user."""

    ERROR = "error"  #: a section or option has no effect because of it
    WARNING = "warning"  #: it works, but perhaps not as meant
    INFO = "info"  #: worth knowing; nothing is wrong


@dataclass(frozen=True)
class Finding:
    """One thing found wrong, or worth saying, about the configuration or the machine.

    ``code`` is stable and made for programs (``bad-value``); ``place`` is ``package.section.option`` as far as it
    applies; ``message`` says what is wrong, with the value; ``remedy`` what would be right.
    """

    severity: Severity
    code: str
    place: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.place}: {self.message}"
        return f"{text}; {self.remedy}" if self.remedy else text
