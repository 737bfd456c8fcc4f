"""The mangle tables in memory: restore text is executed as iptables-restore and the kernel would."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from connbal.errors import KernelError
from connbal.kernel.api import Counter
from connbal.model.config import Family
from connbal.plan.state import ChainText, SetState

Chains = dict[str, list[str]]

BASES = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
EXTENSIONS = {"MARK", "CONNMARK", "RETURN", "LOG", "SET", "ACCEPT", "DROP"}
#: Chains that only packets without an Ethernet source reach: xt_mac refuses to stand in them.
LOCAL = ("OUTPUT", "POSTROUTING")
SETS_IN_RULE = re.compile(r"--(?:match|add)-set (\S+) (\S+)")
TARGET = re.compile(r'(?:^| )-[jg] (\S+)')


@dataclass(frozen=True)
class Refusal:
    """Lines the fake shall refuse: those that ``pattern`` finds. ``named``: the error says which line it was."""

    pattern: str
    named: bool = True


class _Bad(Exception):
    """A line is refused. ``named``: so is its number told."""

    def __init__(self, why: str, *, named: bool = True) -> None:
        super().__init__(why)
        self.named = named


@dataclass
class FakeXtables:
    """Implements ``connbal.kernel.api.Xtables``. ``enter`` is told of each call before it happens, see FakeKernel."""

    sets: Mapping[str, SetState]
    enter: Callable[[str, bool], Callable[[], None]]
    backend: str = "nft"
    families: tuple[Family, ...] = (Family.IPV4, Family.IPV6)
    refusals: list[Refusal] = field(default_factory=list)
    known: set[str] = field(default_factory=set)  #: matches that the kernel says it has
    tables: dict[Family, Chains] = field(default_factory=dict)
    #: family -> chain -> counters of its lines; lines that are written anew start at 0.
    hits: dict[Family, dict[str, list[tuple[int, int]]]] = field(default_factory=dict)

    def available(self, family: Family) -> bool:
        return family in self.families

    def knows_match(self, name: str) -> bool:
        return name in self.known

    def look(self, families: Sequence[Family]) -> dict[Family, dict[str, ChainText]]:
        return {family: self.save(family) for family in families}

    @property
    def generation(self) -> int:
        return 0

    def disturbed(self) -> bool:
        return False

    def save(self, family: Family) -> dict[str, ChainText]:
        done = self.enter(f"save {family.value}", False)
        found = {chain: tuple(lines) for chain, lines in self.tables.get(family, {}).items()}
        done()
        return found

    def counters(self, family: Family) -> dict[str, tuple[Counter, ...]]:
        done = self.enter(f"counters {family.value}", False)
        hits = self.hits.get(family, {})
        found = {
            chain: tuple(Counter(*number, line) for number, line in zip(hits[chain], lines, strict=True))
            for chain, lines in self.tables.get(family, {}).items()
        }
        done()
        return found

    def restore(self, family: Family, text: str) -> None:
        done = self.enter(f"restore {family.value}\n{text}", True)
        chains = {name: list(lines) for name, lines in self.tables.get(family, fresh()).items()}
        touched: set[str] = set()
        lines = text.split("\n")
        assert lines[0] == "*mangle", text
        assert lines[-2:] == ["COMMIT", ""], text
        for number, line in enumerate(lines[1:-2], 2):
            try:
                self._line(chains, family, line, touched)
            except _Bad as bad:
                self._refuse(lines, number if bad.named else None, str(bad))
        try:
            self._commit(chains)
        except _Bad as bad:
            self._refuse(lines, None, str(bad))
        self._count(family, chains, touched)
        self.tables[family] = chains
        done()

    # --- one line ----------------------------------------------------------------------------------------------

    def _line(self, chains: Chains, family: Family, line: str, touched: set[str]) -> None:
        for refusal in self.refusals:
            if re.search(refusal.pattern, line):
                raise _Bad("RULE_APPEND failed (Invalid argument)", named=refusal.named)
        verb, _, rest = line.partition(" ")
        if verb.startswith(":"):
            self._declare(chains, verb[1:], touched)
        elif verb == "-X":
            self._delete_chain(chains, rest)
        elif verb in ("-A", "-D"):
            chain, _, rule = rest.partition(" ")
            if chain not in chains:
                raise _Bad(f"no chain {chain}")
            touched.add(chain)
            self._rule(chains, family, chain, verb, rule)
        else:
            raise _Bad(f"unknown command {verb}")

    def _declare(self, chains: Chains, name: str, touched: set[str]) -> None:
        if len(name) > 28:
            raise _Bad(f"chain name {name} too long")
        assert name not in BASES, "a built-in chain with the rules of others would be emptied"
        chains[name] = []
        touched.add(name)

    def _delete_chain(self, chains: Chains, name: str) -> None:
        if name not in chains or name in BASES:
            raise _Bad(f"no chain {name}")
        if chains[name] or any(name in targets(lines) for lines in chains.values()):
            raise _Bad(f"CHAIN_DEL failed (Device or resource busy): chain {name}", named=False)
        del chains[name]

    def _rule(self, chains: Chains, family: Family, chain: str, verb: str, rule: str) -> None:
        printed = canonical(rule)
        if verb == "-D":
            if printed not in chains[chain]:
                raise _Bad("RULE_DELETE failed (No such file or directory)")
            chains[chain].remove(printed)
            return
        check_words(rule)
        for name, directions in SETS_IN_RULE.findall(unquoted(rule)):
            self._check_set(family, name, directions.count(",") + 1)
        for target in targets([rule]):
            if target not in chains and target not in EXTENSIONS:
                raise _Bad(f"Chain '{target}' does not exist")
            if target in BASES:
                raise _Bad(f"{target} is built in")
        chains[chain].append(printed)

    def _check_set(self, family: Family, name: str, dimensions: int) -> None:
        state = self.sets.get(name)
        if state is None:
            raise _Bad(f"Set {name} doesn't exist.")
        if state.family not in (None, family):
            raise _Bad(f"The protocol family of set {name} does not match")
        if state.type != "list:set" and dimensions > state.type.count(",") + 1:
            raise _Bad(f"set {name} has fewer dimensions", named=False)

    # --- the whole ----------------------------------------------------------------------------------------------

    def _commit(self, chains: Chains) -> None:
        for base in BASES:
            for chain in reachable(chains, base):
                if base in LOCAL and any("--mac-source" in line for line in chains[chain]):
                    raise _Bad("line 99: RULE_APPEND failed (Invalid argument)")

    def _count(self, family: Family, chains: Chains, touched: set[str]) -> None:
        hits = self.hits.setdefault(family, {})
        for name, lines in chains.items():
            if name in touched or name not in hits:
                hits[name] = [(0, 0)] * len(lines)
        for name in set(hits) - set(chains):
            del hits[name]

    def _refuse(self, lines: list[str], number: int | None, why: str) -> None:
        raise KernelError("iptables-restore", None if number is None else lines[number - 1], why, lineno=number)


def fresh() -> Chains:
    return {base: [] for base in BASES}


def unquoted(rule: str) -> str:
    return re.sub(r'"[^"]*"', "quoted", rule)


def targets(lines: Iterable[str]) -> set[str]:
    """The chains or extensions that lines lead to."""
    return {target for line in lines for target in TARGET.findall(unquoted(line))}


def reachable(chains: Mapping[str, Iterable[str]], base: str) -> set[str]:
    """The chains a packet that starts in ``base`` can come to. _Bad where they lead round in a circle."""
    done: set[str] = set()

    def walk(chain: str, path: tuple[str, ...]) -> None:
        if chain in path:
            raise _Bad(f"loop {path}")
        if chain not in done:
            for target in targets(chains[chain]) - EXTENSIONS:
                walk(target, (*path, chain))
            done.add(chain)

    walk(base, ())
    return done


@functools.lru_cache(maxsize=4096)
def options(rule: str) -> tuple[tuple[str, str], ...]:
    """Each option with the word behind it."""
    words = [*shlex.split(rule), ""]
    return tuple((word, words[at + 1]) for at, word in enumerate(words[:-1]) if word.startswith("-"))


def check_words(rule: str) -> None:
    """What the programs check of a line by itself."""
    limits = {"--comment": 255, "--log-prefix": 29, "-i": 15, "-o": 15, "-j": 28, "-g": 28}
    has_protocol = False
    for option, value in options(rule):
        if len(value) > limits.get(option, 4096):
            raise _Bad(f"{option} {value} too long")
        has_protocol |= option == "-p"
        if option in ("--sports", "--dports"):
            if not has_protocol:
                raise _Bad("multiport needs a protocol before it")
            if sum(1 + item.count(":") for item in value.split(",")) > 15:
                raise _Bad("too many ports specified")
        if option == "--bytecode":
            count, *code = value.split(",")
            if int(count) != len(code) or len(code) > 64:
                raise _Bad("bpf: program length out of bounds")
        if option == "--probability" and not 0 < float(value) < 1:
            raise _Bad("statistic: probability out of range")


def canonical(rule: str) -> str:
    """A rule as the fake prints it: the same meaning, other words, as with the real ones.

    Comments come first, and probabilities are what 31 bits make of them.
    """
    comment = re.search(r'-m comment --comment ("[^"]*"|\S+) ?', rule)
    if comment is not None:
        rule = f"{comment[0].rstrip()} {rule[: comment.start()]}{rule[comment.end() :]}".rstrip()
    return re.sub(
        r"--probability (\S+)", lambda found: f"--probability {round(float(found[1]) * 2**31) / 2**31:.11f}", rule
    )
