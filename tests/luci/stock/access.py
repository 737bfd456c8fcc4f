"""Who may do what: rpcd's sessions with the groups in acl.d, as far as pages meet them."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

#: The directory of ACL files below a package's ``root`` and on a router.
DIRECTORY = "usr/share/rpcd/acl.d"


class Access:
    """What one session may do: all groups' read rights, and with ``write`` their write rights too."""

    def __init__(self, files: Iterable[Path], write: bool) -> None:
        self._write = write
        self._groups: set[str] = set()
        self._rights: dict[str, list[tuple[str, str]]] = {}
        for file in files:
            for name, group in json.loads(file.read_text()).items():
                self._groups.add(name)
                for kind in ("read", "write") if write else ("read",):
                    for scope, function, objects in _rights(group.get(kind, {}), kind):
                        self._rights.setdefault(scope, []).extend((one, function) for one in objects)

    def allows(self, scope: str, name: str, function: str) -> bool:
        """As rpcd's ``session access``: patterns have ``*``, which takes slashes and spaces too."""
        return any(
            fnmatch.fnmatchcase(name, pattern) and fnmatch.fnmatchcase(function, allowed)
            for pattern, allowed in self._rights.get(scope, ())
        )

    def page(self, groups: Iterable[str]) -> tuple[bool, bool]:
        """Whether a page that depends on these groups is shown, and whether only to be looked at."""
        wanted = list(groups)
        known = not wanted or any(name in self._groups for name in wanted)
        return known, bool(wanted) and not self._write


def _rights(scopes: dict[str, Any], kind: str) -> Iterator[tuple[str, str, list[str]]]:
    """Scope, function, and the objects that it is allowed on. A list in place of a table is one of objects."""
    for scope, given in scopes.items():
        if isinstance(given, list):
            yield scope, kind, given
        else:
            for name, functions in given.items():
                for function in functions:
                    yield scope, function, [name]
