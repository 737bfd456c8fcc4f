"""What connbal remembers of what it put into the kernel: a value, kept as JSON in the run directory.

The kernel prints rules in its own words, and each version and backend in others, so rules cannot be compared with what
was written. Instead connbal reads back what it wrote and remembers, per chain, a digest of what it wrote and a digest
of what the kernel made of it. While both hold, the chain is as it should be; a rule that somebody changed, deleted or
added shows at once. A lost ledger costs one rewrite of every chain, no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any

from connbal.frozen import dataclass
from connbal.model.config import FAMILIES, Family
from connbal.model.marks import MarkSpace

VERSION = 1


def digest(lines: Iterable[str]) -> str:
    """A digest of lines of text, order included."""
    import hashlib  # whose library is slow to load, and not for those who only ask whether there is anything

    text = "\n".join(lines)
    return hashlib.sha1(text.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Ledger:
    """See the module. Everything may be missing: after a reboot it is."""

    backend: str = ""
    #: family -> chain -> (digest of what was written, digest of what was read back)
    chains: Mapping[Family, Mapping[str, tuple[str, str]]] = field(default_factory=dict)
    ids: Mapping[str, int] = field(default_factory=dict)  #: interface -> id, as last applied
    #: Further ids that interfaces may have in the kernel: written down before a change, empty once it is complete.
    underway: frozenset[tuple[str, int]] = frozenset()
    mask: int = 0
    present: frozenset[str] = frozenset()  #: interfaces that had a table
    usable: frozenset[str] = frozenset()  #: interfaces that policies could use
    #: (policy, family) -> interfaces that took part, for what a returning source displaces
    active: Mapping[str, frozenset[str]] = field(default_factory=dict)
    made_sets: frozenset[str] = frozenset()  #: sets that were missing, and that ``stop`` takes away again if empty
    #: What was refused once, as names of Facts, and whether the kernel said that it has it all the same (then it is the
    #: program that lacks it).
    lacking: Mapping[str, bool] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "backend": self.backend,
            "chains": {family.value: {name: list(pair) for name, pair in chains.items()}
                       for family, chains in self.chains.items()},
            "ids": dict(self.ids),
            "underway": sorted(list(pair) for pair in self.underway),
            "mask": self.mask,
            "present": sorted(self.present),
            "usable": sorted(self.usable),
            "active": {key: sorted(names) for key, names in self.active.items()},
            "made_sets": sorted(self.made_sets),
            "lacking": dict(self.lacking),
        }  # fmt: skip

    @staticmethod
    def from_json(data: object) -> Ledger:
        """A ledger from what :meth:`as_json` gave; anything else, or another version's, is an empty one."""
        if not isinstance(data, dict) or data.get("version") != VERSION:
            return Ledger()
        try:
            ledger = Ledger(
                backend=str(data["backend"]),
                chains={
                    family: {str(name): (str(pair[0]), str(pair[1])) for name, pair in chains.items()}
                    for family in FAMILIES
                    if (chains := data["chains"].get(family.value)) is not None
                },
                ids={str(name): int(number) for name, number in data["ids"].items()},
                underway=frozenset((str(name), int(number)) for name, number in data["underway"]),
                mask=int(data["mask"]),
                present=frozenset(map(str, data["present"])),
                usable=frozenset(map(str, data["usable"])),
                active={str(key): frozenset(map(str, names)) for key, names in data["active"].items()},
                made_sets=frozenset(map(str, data["made_sets"])),
                lacking={str(name): bool(known) for name, known in data.get("lacking", {}).items()},
            )
            if ledger.mask:
                MarkSpace(ledger.mask)  # ValueError where it is none
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError):
            return Ledger()
        return ledger
