"""Whether something hostile got anywhere in a router: what programs were started, and what files written or changed.

Each shell is one that writes down its words first; each Python has :mod:`tests.router.machine.overseer` in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from tests.router.router import Router

#: Stands in every hostile text that would do something if a shell, or anybody else, took it at its word.
MARK = "pwned"
SHELLS, PYTHONS = "/tmp/log/shells.log", "/tmp/log/overseer.log"
_SHELL = f"""#!/bin/busybox sh
printf '%s\\0' "$@" >>{SHELLS}
exec /bin/busybox sh "$@"
"""
#: What connbal may start; the last one is there for ``mwan3 use``.
_PROGRAMS = re.compile(r"(ip6?tables(-(nft|legacy))?(-save|-restore)?|ipset|ip|ubus|hotplug-call|true)")
#: The files it may write; names without a slash are in a directory that was opened before.
_FILES = re.compile(
    r"(/etc/config/[^/]*|/tmp/\.uci(/[^/]*)?|(/tmp|/var)/run(/connbal|/mwan3(track)?)?(/[^/]+)*|/dev/null"
    r"|/proc/self/.*|[^/]+)"
)
#: What changes by itself: the stand-ins' own files and the logs.
_RESTLESS = ("proc", "sys", "dev", "host", "tmp/router", "tmp/log", "tmp/run")


class Watch:
    """Begins when it is made, which has to be before the service is started."""

    def __init__(self, router: Router) -> None:
        self._router = router
        version = next((router.root / "usr/lib").glob("python3*")).name
        site = router.root / "usr/lib" / version / "site-packages"
        (site / "overseer.py").symlink_to("/lib/router/overseer.py")
        (site / "overseer.pth").write_text("import overseer\n")
        shell = router.root / "bin/sh"
        shell.unlink()
        shell.write_text(_SHELL)
        shell.chmod(0o755)

    def complaints(self) -> Iterator[str]:
        """What should not have happened so far, in words."""
        shells = self._router.path(SHELLS)
        if shells.exists() and MARK.encode() in shells.read_bytes():
            yield "a shell was given a hostile text"
        if self._router.path(f"/tmp/{MARK}").exists():
            yield "a hostile text was run"
        for line in self._router.path(PYTHONS).read_text("utf-8").splitlines():
            argv, event, words = json.loads(line)
            role = " ".join(argv[1:])
            if "connbal" in role and "/lib/router" not in role and not _fine(event, words):
                yield f"{role}: {event} {words}"

    def seen(self) -> set[str]:
        """Kinds of events that were seen: to know that it watches."""
        return {json.loads(line)[1] for line in self._router.path(PYTHONS).read_text("utf-8").splitlines()}


def _fine(event: str, words: list[str]) -> bool:
    if event in ("subprocess.Popen", "os.exec", "os.posix_spawn"):
        script = words[1:3] == ["/bin/sh", "/etc/mwan3.user"]
        return MARK not in " ".join(words) and (script or bool(_PROGRAMS.fullmatch(os.path.basename(words[0]))))
    return event not in ("os.system", "os.spawn") and all(map(_FILES.fullmatch, words))


def tree(router: Router) -> dict[str, tuple[int, str]]:
    """Each file of a router but those that change by themselves: its mode, and a digest of its content."""
    return {name: _of(router.root / name) for name in _names(router.root, "")}


def _names(root: Path, below: str) -> Iterator[str]:
    for entry in os.scandir(root / below):
        name = f"{below}/{entry.name}".lstrip("/")
        if name in _RESTLESS:
            continue
        yield name
        if entry.is_dir(follow_symlinks=False):
            yield from _names(root, name)


def _of(path: Path) -> tuple[int, str]:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return mode, os.readlink(path)
    text = path.read_bytes() if stat.S_ISREG(mode) else b""
    return mode, hashlib.sha1(text, usedforsecurity=False).hexdigest()
