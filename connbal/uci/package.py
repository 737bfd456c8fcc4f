"""What a UCI package is: sections in file order, each with a type and options.

Everything here is a value. Text becomes values in :mod:`connbal.uci.text`, files in :mod:`connbal.uci.store`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field

from connbal.frozen import dataclass

#: A single value (``option``) or several (``list``).
Value = str | tuple[str, ...]

_INDEXED = re.compile(r"@([!-~]*)\[(-?[0-9]{1,9})\]")


@dataclass(frozen=True)
class Section:
    """One ``config`` section.

    name: unique in its package; ``cfg`` and six or more hexadecimal digits where the section is anonymous. Such a
    name depends on the position in the file and is good until the next change, no longer.
    type: the word after ``config``.
    anonymous: the file gives no name.
    options: in file order. A value is a string, or a tuple where the file says ``list``. Bytes that are not UTF-8
    are kept as surrogate escapes (PEP 383).
    """

    name: str
    type: str
    anonymous: bool = False
    options: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Package:
    """One configuration file, ``/etc/config/<name>``."""

    name: str
    sections: tuple[Section, ...] = ()

    def of_type(self, kind: str) -> tuple[Section, ...]:
        """The sections of type ``kind``, in file order."""
        return tuple(section for section in self.sections if section.type == kind)

    def get(self, name: str) -> Section | None:
        """The section called ``name``, or None. A name that occurs twice means the first, as in libuci."""
        return next((section for section in self.sections if section.name == name), None)

    def find(self, reference: str) -> Section | None:
        """The section that ``reference`` means: a name, ``@type[0]``, ``@type[-1]`` or ``@[3]``; None if there is none.

        The notation of the ``uci`` command: the index counts sections of that type, or all of them without a type,
        and a negative one counts from the end.
        """
        indexed = _INDEXED.fullmatch(reference)
        if indexed is None:
            return self.get(reference)
        kind, index = indexed[1], int(indexed[2])
        candidates = self.of_type(kind) if kind else self.sections
        if not -len(candidates) <= index < len(candidates):
            return None
        return candidates[index]


def anonymous_name(position: int, kind: str) -> str:
    """The name libuci gives the anonymous section that is the ``position``-th (from 1) of its package.

    A counter and the low 16 bits of Bernstein's hash (5381, times 33) of the type. libuci hashes options too, but
    names a section before it has any. Observed with libuci of 2025; the vectors hold it.
    """
    digest = 5381
    for byte in kind.encode("utf-8", "surrogateescape"):
        digest = (digest * 33 + byte) & 0xFFFF
    return f"cfg{position:02x}{digest:04x}"
