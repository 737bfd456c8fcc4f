"""The mangle tables, through ``iptables-save`` and ``iptables-restore``: one process per listing or transaction.

Whether anything has changed is asked of the kernel itself, where it can tell; see :meth:`SystemXtables.look`.

Two builds of these programs exist, ``nft`` and ``legacy``, with separate rulesets in the kernel. What the rest of the
system uses is what the plain names in PATH lead to, so connbal uses that too; ``CONNBAL_IPTABLES=nft`` or ``legacy``
in the environment overrides it.

The parsers are pure: text in, values out.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from connbal.errors import KernelError
from connbal.kernel import exec as programs
from connbal.kernel.api import Counter, TransientError
from connbal.model.config import Family
from connbal.plan.state import ChainText

TABLE = "mangle"

#: Environment variable that forces a build.
OVERRIDE = "CONNBAL_IPTABLES"
BACKENDS = ("nft", "legacy")

#: Seconds to wait for the lock that the legacy programs share. The nft ones accept and ignore it.
_LOCK_WAIT = 5
#: Seconds a transaction may take: 1,000 rules take 0.06 s on a PC, and small routers are some 30 times slower.
_TIMEOUT = 60.0

_TOOL = {Family.IPV4: "iptables", Family.IPV6: "ip6tables"}
#: Exists exactly if the kernel has IPv6 (absent too with ``ipv6.disable=1``).
_IP6_PRESENT = "/proc/self/net/if_inet6"


class SystemXtables:
    """Implements :class:`connbal.kernel.api.Xtables` with the system's programs.

    Works on the network namespace of the thread that calls. Raises KernelError from the start where no iptables is
    installed.
    """

    backend: str  #: ``nft`` or ``legacy``

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        forced = environment.get(OVERRIDE, "")
        if forced and forced not in BACKENDS:
            raise KernelError("iptables-restore", None, f"{OVERRIDE}={forced}: must be one of {', '.join(BACKENDS)}")
        self._infix, self.backend = _choose(forced)
        self._available: set[Family] = set()
        self._rules: _Rules | None = None

    def close(self) -> None:
        """Let go of sockets. The object may be used again."""
        if self._rules is not None:
            self._rules.close()

    def available(self, family: Family) -> bool:
        """Whether rules of this family can exist: kernel and program have it. A yes is remembered, a no is not.

        Raises TransientError where that cannot be found out now.
        """
        if family in self._available:
            return True
        if family is Family.IPV6 and not os.path.exists(_IP6_PRESENT):
            return False
        if programs.find(self._program(family, "restore")) is None:
            return False
        try:
            self.look([family])
        except TransientError:
            raise
        except KernelError:
            return False
        self._available.add(family)
        return True

    def look(self, families: Sequence[Family]) -> dict[Family, Mapping[str, ChainText]]:
        """Every chain of the mangle table, with lines that are equal as long as the rules are.

        A line is not what iptables prints, except for a rule that only jumps (``-j CHAIN``); of any other, it may tell
        no more than where it leads. So lines of a look are compared with lines of a look alone. No program is started
        where the kernel can tell.
        """
        if self._rules is None:
            self._rules = _rules(self.backend)
        told = {family: self._rules.chains(family) for family in families}
        silent = [family for family, chains in told.items() if chains is None]
        saved = programs.at_once([functools.partial(self.save, family) for family in silent])
        return {family: chains for family, chains in told.items() if chains is not None} | dict(
            zip(silent, saved, strict=True)
        )

    @property
    def generation(self) -> int:
        """The number of the rules' state as the last look found them; 0: they are not numbered, or not known."""
        return self._rules.seen if self._rules is not None else 0

    def disturbed(self) -> bool:
        """Whether another look would find anything else than the last one did: two system calls a family. No where the
        kernel cannot tell, and before the first look. Raises KernelError.
        """
        return self._rules is not None and self._rules.disturbed()

    def save(self, family: Family) -> dict[str, ChainText]:
        """Every chain of the mangle table with its rules. Empty where nobody has used the table yet (nft)."""
        return parse_save(self._list(family))

    def counters(self, family: Family) -> dict[str, tuple[Counter, ...]]:
        """As :meth:`save`, with packets and bytes of each rule."""
        return parse_counters(self._list(family, "-c"))

    def restore(self, family: Family, text: str) -> None:
        """Apply ``text`` (``*mangle`` to ``COMMIT``) as one transaction: all of it or nothing.

        Chains that ``text`` does not mention stay as they are.

        Raises
        ------
        TransientError: the lock was not to be had, no answer in time, too little memory.
        KernelError: refused. ``lineno`` and ``line`` only where that line alone is certainly at fault; None where
            the refusal names no line, or one that only brought another's fault to light (a jump).
        """
        argv = [self._program(family, "restore"), "--noflush", "-w", str(_LOCK_WAIT)]
        result = programs.run(argv, stdin=text, timeout=_TIMEOUT, check=False)
        if result.returncode == 0:
            return
        error = programs.failure(argv, result)
        command, said = argv[0], error.output
        if isinstance(error, TransientError):
            raise TransientError(command, None, said)
        lineno = blame(text, said)
        line = None if lineno is None else text.split("\n")[lineno - 1]
        raise KernelError(command, line, said, lineno=lineno)

    def listing(self, family: Family, chain: str | None = None) -> str:
        """What ``iptables -nvL`` prints of the mangle table, or of one chain. KernelError: there is no such chain."""
        argv = [f"{_TOOL[family]}{self._infix}", "-w", str(_LOCK_WAIT), "-t", TABLE, "-nvL"]
        argv += [chain] if chain else []
        return programs.run(argv, timeout=_TIMEOUT).stdout

    def knows_match(self, name: str) -> bool:
        """Whether the kernel lists a match among those it has. One in a module not loaded yet is not listed."""
        for path in ("/proc/net/ip_tables_matches", "/proc/net/ip6_tables_matches"):
            with contextlib.suppress(OSError), open(path, encoding="ascii", errors="replace") as stream:
                if name in stream.read().split():
                    return True
        return False

    def _list(self, family: Family, *options: str) -> str:
        argv = [self._program(family, "save"), "-t", TABLE, *options]
        text = programs.run(argv, timeout=_TIMEOUT).stdout
        if f"Table `{TABLE}' is incompatible" in text:
            why = f"table {TABLE} holds rules made with nft that iptables cannot show; remove them with nft"
            raise KernelError(" ".join(argv), None, why)
        return text

    def _program(self, family: Family, verb: str) -> str:
        return f"{_TOOL[family]}{self._infix}-{verb}"


class _Rules(Protocol):
    """The kernel's own word on what is in a table."""

    @property
    def seen(self) -> int: ...

    def chains(self, family: Family) -> Mapping[str, ChainText] | None: ...

    def disturbed(self) -> bool: ...

    def close(self) -> None: ...


def _rules(backend: str) -> _Rules:
    """Imports what only one of the builds needs."""
    if backend == "nft":
        from connbal.kernel.nftables import NftRules

        return NftRules(TABLE)
    try:
        from connbal.kernel.iptables_legacy import LegacyRules
    except ImportError:  # a Python without ctypes
        return _Silent()
    return LegacyRules(TABLE)


class _Silent:
    """Of a table that nobody but the program can tell of."""

    seen = 0

    def chains(self, family: Family) -> None:
        """Nothing is known."""

    def disturbed(self) -> bool:
        """Nor here."""
        return False

    def close(self) -> None:
        """Nothing is open."""


def _choose(forced: str) -> tuple[str, str]:
    """What stands between ``iptables`` and ``-restore``, and which build that is."""
    if forced:
        if programs.find(f"iptables-{forced}-restore") is None:
            raise programs.missing(f"iptables-{forced}-restore")
        return f"-{forced}", forced
    plain = programs.find("iptables-restore")
    if plain is not None:
        return "", _backend_of(plain)
    for backend in BACKENDS:
        if programs.find(f"iptables-{backend}-restore") is not None:
            return f"-{backend}", backend
    raise programs.missing("iptables-restore")


def _backend_of(path: str) -> str:
    """Which build a program is: by what its symbolic link leads to, else by what it says of itself."""
    target = os.path.basename(os.path.realpath(path))
    for backend in BACKENDS:
        if f"-{backend}-" in target:
            return backend
    return "nft" if "nf_tables" in programs.run([path, "--version"]).stdout else "legacy"


# --- what the save programs print ----------------------------------------------------------------------------------

_COUNTED = re.compile(r"\[(\d+):(\d+)\] ")


def parse_save(text: str) -> dict[str, ChainText]:
    """Chains of the mangle table and their rules, out of what ``iptables-save`` printed, counters or not."""
    return {chain: tuple(counter.rule for counter in counters) for chain, counters in parse_counters(text).items()}


def parse_counters(text: str) -> dict[str, tuple[Counter, ...]]:
    """The same with counters; 0 where ``iptables-save`` ran without ``-c``."""
    chains: dict[str, list[Counter]] = {}
    table = ""
    for line in _logical_lines(text):
        if line.startswith("*"):
            table = line[1:].strip()
        elif table != TABLE:
            continue
        elif line.startswith(":"):
            chains.setdefault(line[1:].split(" ", 1)[0], [])
        else:
            _take_rule(chains, line)
    return {chain: tuple(rules) for chain, rules in chains.items()}


def _take_rule(chains: dict[str, list[Counter]], line: str) -> None:
    packets = octets = 0
    counted = _COUNTED.match(line)
    if counted:
        packets, octets = int(counted[1]), int(counted[2])
        line = line[counted.end() :]
    words = line.split(" ", 2)
    if words[0] == "-A" and len(words) > 1:
        chains.setdefault(words[1], []).append(Counter(packets, octets, words[2] if len(words) > 2 else ""))


def _logical_lines(text: str) -> Iterator[str]:
    """Lines, where a line feed inside quotes (a comment may hold one) is part of its rule and begins nothing."""
    held = ""
    for line in text.split("\n"):
        held = f"{held}\n{line}" if held else line
        if _quotes_open(held):
            continue
        if held and not held.startswith("#"):
            yield held
        held = ""


def _quotes_open(line: str) -> bool:
    if '"' not in line or line.startswith("#"):
        return False
    return re.sub(r"\\.", "", line, flags=re.DOTALL).count('"') % 2 == 1


# --- what the restore programs complain about -------------------------------------------------------------------------

#: nft, from the kernel, one for each operation refused: ``line 3: RULE_APPEND failed (Invalid argument): rule in …``.
#: Later ones often only follow from the first.
_REFUSED = re.compile(r"^line (\d+): (\w+) failed", re.MULTILINE)
#: Both, from the program's own look at the text.
_UNREADABLE = re.compile(r"Error occurred at line: (\d+)")
#: ``iptables-restore: line 4 failed``, with legacy the line of COMMIT where the kernel did not say which rule.
_FAILED = re.compile(r"\bline (\d+) failed")
#: nft notices an unknown target or chain only at the end and names the line after the last rule.
_NO_CHAIN = re.compile(r"Chain '([^']+)' does not exist")
_TARGET = re.compile(r"(?:^| )(?:-j|-g|--jump|--goto) (\S+)")
_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"')


def blame(text: str, said: str) -> int | None:
    """1-based number of the line of a restore file that is certainly at fault; None where that is not known.

    ``text`` is the file, ``said`` what the program wrote when it refused it.
    """
    lines = text.split("\n")
    unknown = _NO_CHAIN.search(said)
    if unknown:
        return next((number for number, line in enumerate(lines, 1) if _target(line) == unknown[1]), None)
    refused = _REFUSED.search(said)
    if refused and not refused[2].startswith("RULE_"):
        return None
    found = refused or _UNREADABLE.search(said) or _FAILED.search(said)
    number = int(found[1]) if found else 0
    if not 0 < number <= len(lines) or not lines[number - 1].startswith(("-", ":")):
        return None
    if refused and _leads_to_chain(lines[number - 1], lines):
        # The kernel judges a chain only when something leads to it from a hook, and then names whatever did.
        return None
    return number


def _target(line: str) -> str | None:
    targets = _TARGET.findall(_QUOTED.sub("", line))
    return targets[-1] if targets else None


def _leads_to_chain(line: str, lines: list[str]) -> bool:
    target = _target(line)
    if target is None:
        return False
    declared = any(other.startswith(f":{target} ") for other in lines)
    return declared or not target.isupper()  # extensions have names in capitals, connbal's chains have not
