"""Files that root runs as programs: only those that nobody but root can have written.

A file counts if it is root's (or of the user that connbal runs as) and nobody else may write it, and if the same holds
for every directory and every link on the way to it. Then nobody else can change or exchange it afterwards either, so
that what was looked at is what runs. A directory like ``/tmp``, where everybody may write, but not rename what belongs
to others, may be on the way, but neither the file nor a link to it may lie in it.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from connbal.errors import Finding, KernelError, Severity

#: Code of the findings.
UNTRUSTED = "untrusted-script"
USER_SCRIPT, HOTPLUG_CALL = Path("/etc/mwan3.user"), Path("/sbin/hotplug-call")
#: What hotplug-call runs for events of interfaces.
HOTPLUG_SCRIPTS = Path("/etc/hotplug.d/iface")

_SHELL = "/bin/sh"
_LINKS_MAX = 40


class Untrusted(KernelError):
    """A file that root must not run. ``remedy``: commands, or what else to do."""

    def __init__(self, path: str, why: str, remedy: str) -> None:
        self.path, self.why, self.remedy = path, why, remedy
        super().__init__(path, None, f"not run as root: {why}; {remedy}")

    def finding(self) -> Finding:
        return Finding(Severity.WARNING, UNTRUSTED, self.path, f"not run as root: {self.why}", self.remedy)


def user_script(script: Path) -> list[str] | None:
    """The command line of the user's script, whatever its mode: what its first line names, with its argument as the
    kernel would take it, else the shell. None where there is none. Raises Untrusted.
    """
    try:
        descriptor = os.open(script, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Untrusted(str(script), f"it cannot be read: {error.strerror}", "put a readable file there") from error
    try:
        check(script, os.fstat(descriptor))
        first = os.read(descriptor, 256).partition(b"\n")[0]
    finally:
        os.close(descriptor)
    words = os.fsdecode(first[2:].strip()).split(None, 1) if first.startswith(b"#!") else []
    if not (words and words[0].startswith("/") and os.access(words[0], os.X_OK)):
        words = [_SHELL]
    check(Path(words[0]))
    return [*words, str(script)]


def hotplug_call(program: Path, scripts: Path = HOTPLUG_SCRIPTS) -> list[str] | None:
    """The command line that tells everybody of an event; None where there is no such program.

    Raises Untrusted, also where one of the ``scripts`` that it would run is not to be trusted.
    """
    if not (os.path.isfile(program) and os.access(program, os.X_OK)):
        return None
    check(program)
    try:
        names = sorted(os.listdir(scripts))
    except OSError:
        return [str(program), "iface"]
    found = _walk(str(scripts))
    if found.st_mode & 0o022:  # /tmp itself, say
        raise Untrusted(str(scripts), "others may put scripts there", _elsewhere(str(scripts), found))
    for name in names:
        if os.path.isfile(scripts / name):
            check(scripts / name)
    return [str(program), "iface"]


def findings(
    script: Path = USER_SCRIPT, program: Path = HOTPLUG_CALL, scripts: Path = HOTPLUG_SCRIPTS
) -> Iterator[Finding]:
    """What would not be run."""
    looks: tuple[Callable[[], object], ...] = (lambda: user_script(script), lambda: hotplug_call(program, scripts))
    for look in looks:
        try:
            look()
        except Untrusted as error:
            yield error.finding()


def check(path: Path, opened: os.stat_result | None = None) -> None:
    """Raise Untrusted where others can have written a file, or can still exchange it.

    ``opened``: what has been opened by this path; the path has to lead there.
    """
    found = _walk(str(path))
    if not stat.S_ISREG(found.st_mode):
        raise Untrusted(str(path), "it is no file", "put a script there, or nothing")
    if opened is not None and (found.st_dev, found.st_ino) != (opened.st_dev, opened.st_ino):
        raise Untrusted(str(path), "it was exchanged just now", "see who writes it")


def _walk(path: str) -> os.stat_result:
    """What is at the end of a path, with everything on the way looked at."""
    left, at, links = deque(_parts(path)), "/", 0
    holds = _look(at, path)
    while left:
        name = left.popleft()
        here = os.path.normpath(os.path.join(at, name))  # `at` has no links in it
        found = _look(here, path)
        if stat.S_ISDIR(found.st_mode):
            at, holds = here, found
            continue
        # Whoever may write to the directory could make it another file, or another link.
        if holds.st_mode & 0o022:
            what = "it" if here == path else here
            raise Untrusted(path, f"others may write to {at}, where {what} lies", _elsewhere(at, holds))
        if not stat.S_ISLNK(found.st_mode):
            if left:
                raise Untrusted(path, f"{here} is no directory", "put a file there, or nothing")
            return found
        links += 1
        if links > _LINKS_MAX:
            raise Untrusted(path, "too many links", "put a file there")
        target = os.readlink(here)
        if target.startswith("/"):
            at = "/"
            holds = _look(at, path)
        left.extendleft(reversed(_parts(target)))
    return holds


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part and part != "."]


def _look(here: str, path: str) -> os.stat_result:
    """``lstat``; whose it is and who may write it are right. Raises Untrusted."""
    try:
        found = os.lstat(here)
    except OSError as error:
        raise Untrusted(path, f"{here}: {error.strerror}", "put a file there, or nothing") from error
    what = "it" if here == path else here
    if found.st_uid not in (0, os.geteuid()):
        raise Untrusted(path, f"{what} belongs to user {found.st_uid}", f"chown -h root:root {_quoted(here)}")
    if stat.S_ISLNK(found.st_mode):
        return found
    shared = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
    if found.st_mode & 0o022 and not shared:
        raise Untrusted(path, f"others may write {what}, mode {stat.S_IMODE(found.st_mode):o}",
                        f"chmod go-w {_quoted(here)}")  # fmt: skip
    return found


def _elsewhere(at: str, holds: os.stat_result) -> str:
    return "put it elsewhere" if holds.st_mode & stat.S_ISVTX else f"chmod go-w {_quoted(at)}"


def _quoted(path: str) -> str:
    import shlex

    return shlex.quote(path)
