"""The contract of a configuration store, what both stores share, and the choice between them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol

from connbal.errors import ConfigError, UsageError
from connbal.uci import files, text

if TYPE_CHECKING:
    from pathlib import Path  # whose import brings urllib

    from connbal.uci.edit import Editor
    from connbal.uci.package import Package

#: Names the store to use: ``embedded`` or ``libuci``.
STORE_VARIABLE = "CONNBAL_UCI"
#: How long a transaction waits for other writers before it gives up, seconds.
PATIENCE = 30.0
#: What a file may have, besides files.MAX_BYTES. 10,000 rules with a dozen options each fit.
MAX_LINES, MAX_SECTIONS, MAX_LINE = 150_000, 12_000, 64 << 10

#: What surrounds the replacement of a file, given its old content (None: there is no file) and the new one.
Around = Callable[[bytes | None, bytes], AbstractContextManager[object]]

_PACKAGE = re.compile(r"[A-Za-z0-9_-]+")


class Store(Protocol):
    """A directory of UCI packages, read and written as libuci would.

    Only the committed files count: changes staged in /tmp/.uci by others are neither read nor committed nor lost.
    """

    @property
    def kind(self) -> str:
        """``embedded`` or ``libuci``."""

    @property
    def config_dir(self) -> Path:
        """Where the files are."""

    def load(self, package: str) -> Package:
        """Read a package.

        Raises
        ------
        ConfigError: there is no such file, it cannot be read, or libuci would refuse it (with the line).
        """

    def transaction(self, package: str, around: Around | None = None) -> AbstractContextManager[Editor]:
        """Change a package: an editor for a ``with`` block, under a lock against other writers.

        What the editor did is written when the block ends, atomically and to the disk, and forgotten where an exception
        ends it. A missing file counts as empty and is made with mode 0600. Where nothing was changed, nothing is
        written; otherwise the file is in libuci's canonical form afterwards, without comments.
        Keep the block short: others wait. Transactions on one package do not nest.

        around: entered, under the lock, before the file is replaced, and left after it; what it raises keeps the file
        as it is.

        Raises
        ------
        ConfigError: as for load, but for a missing file; the lock could not be had in PATIENCE seconds; the file cannot
        be written, or was changed at the same time by a program that did not respect the lock so that the changes
        no longer fit. The file is untouched then.
        """


class FileStore:
    """Files and transactions; the stores add how text becomes a package and a changed package becomes text."""

    kind = ""

    def __init__(self, config_dir: str | os.PathLike[str], *, patience: float = PATIENCE) -> None:
        self._config_dir = config_dir
        self._patience = patience

    @property
    def config_dir(self) -> Path:
        from pathlib import Path

        return Path(self._config_dir)

    def load(self, package: str) -> Package:
        """As in :class:`Store`."""
        path = self._path(package)
        with self._explaining(package, path):
            try:
                data = files.read(path)
            except FileNotFoundError:
                why = f"there is no {path}; connbal init makes one"
                raise ConfigError(package, None, None, why) from None
        return self._read(package, path, data)

    @contextmanager
    def transaction(self, package: str, around: Around | None = None) -> Iterator[Editor]:
        """As in :class:`Store`."""
        from connbal.uci.edit import Editor

        path = self._path(package)
        deadline = time.monotonic() + self._patience
        with ExitStack() as stack:
            with self._explaining(package, path):
                file = stack.enter_context(files.LockedFile(path, package, deadline))
                data = file.content()
            editor = Editor(self._read(package, path, data))
            yield editor
            with self._explaining(package, path):
                done = not editor.changes or self._commit(file, package, data, editor, around)
        with self._explaining(package, path):
            while not done:
                if time.monotonic() > deadline:
                    raise files.Busy
                done = self._retry(path, package, editor, deadline, around)

    @contextmanager
    def _explaining(self, package: str, path: str) -> Iterator[None]:
        """Turn what can go wrong with a file into a ConfigError; not around the caller's own block."""
        try:
            yield
        except files.Busy:
            why = f"another program has kept {path} locked for {self._patience:g} seconds; try again when it is done"
            raise ConfigError(package, None, None, why) from None
        except OSError as error:
            raise files.explain(package, path, error) from error

    def _retry(self, path: str, package: str, editor: Editor, deadline: float, around: Around | None) -> bool:
        """Do the changes again on what somebody else has made of the file meanwhile."""
        from connbal.uci.edit import Editor

        with files.LockedFile(path, package, deadline) as file:
            data = file.content()
            again = Editor(self._read(package, path, data))
            again.redo(editor.changes)
            return not again.changes or self._commit(file, package, data, again, around)

    def _commit(self, file: files.LockedFile, package: str, data: bytes, editor: Editor, around: Around | None) -> bool:
        """Write; False where somebody replaced the file meanwhile."""
        result = self._render(package, data, editor)
        _check_size(package, self._path(package), result)
        if not _says(result, editor.package):
            why = "the result would not read back as meant; nothing was written. Look for quotes in types"
            raise ConfigError(package, None, None, why)
        try:
            with around(data if file.exists else None, result) if around is not None else nullcontext():
                file.replace(result)
        except files.Changed:
            return False
        return True

    def _read(self, package: str, path: str, data: bytes) -> Package:
        """What a file says. ConfigError where it is damaged, too large, or libuci would refuse it."""
        if b"\0" in data:
            whole = "nothing but NUL bytes" if not data.strip(b"\0") else "NUL bytes"
            remedy = "put a backup in its place, or remove it and make a new one (connbal init)"
            why = f"{path}: it has {whole}, as a file has after a power cut; nothing of it is used, {remedy}"
            raise ConfigError(package, None, None, why)
        _check_size(package, path, data)
        found = self._parse(package, data)
        if len(found.sections) > MAX_SECTIONS:  # several of them in a line, or by a short word
            raise _too_large(package, path, MAX_SECTIONS, "sections")
        return found

    def _path(self, package: str) -> str:
        if not _PACKAGE.fullmatch(package):
            raise ConfigError(package, None, None, "this is no package name; allowed are letters, digits, _ and -")
        return os.path.join(self._config_dir, package)

    def _parse(self, package: str, data: bytes) -> Package:
        raise NotImplementedError

    def _render(self, package: str, data: bytes, editor: Editor) -> bytes:
        """The file with the editor's changes: ``data`` is what they were made to."""
        raise NotImplementedError


def _check_size(package: str, path: str, data: bytes) -> None:
    """ConfigError where a file is larger than it may be. What is kept of it grows with each of these."""
    lines = data.split(b"\n") if len(data) > MAX_LINE else ()
    for found, limit, what in (
        (len(data), files.MAX_BYTES, "bytes"), (len(lines), MAX_LINES, "lines"),
        (sum(line.lstrip().startswith(b"config") for line in lines), MAX_SECTIONS, "sections"),
        (max(map(len, lines), default=0), MAX_LINE, "bytes in one line"),
    ):  # fmt: skip
        if found > limit:
            raise _too_large(package, path, limit, what)


def _too_large(package: str, path: str, limit: int, what: str) -> ConfigError:
    why = f"{path}: more than {limit} {what}; nothing of it is used, as a router has no memory for that"
    return ConfigError(package, None, None, why)


def _says(data: bytes, package: Package) -> bool:
    """Whether a file with ``data`` would be read as ``package``."""
    from connbal.uci.edit import same_content

    try:
        return same_content(text.parse(data, package.name), package)
    except ConfigError:
        return False


def open_store(config_dir: str | os.PathLike[str], *, prefer: str | None = None) -> Store:
    """The store for the files in ``config_dir``: libuci where its Python binding is installed, else the embedded one.

    prefer: ``embedded`` or ``libuci`` to insist on one. The environment variable CONNBAL_UCI does the same, and wins.

    Raises
    ------
    UsageError: an unknown name, or libuci was insisted on and ``import uci`` fails.
    """
    kind = os.environ.get(STORE_VARIABLE) or prefer
    if kind not in (None, "embedded", "libuci"):
        raise UsageError(f"{kind!r} is no configuration store; {STORE_VARIABLE} can be embedded or libuci")
    if kind != "embedded":
        from connbal.uci import libuci

        if libuci.available():
            return libuci.LibuciStore(config_dir)
        if kind == "libuci":
            raise UsageError("the Python binding of libuci cannot be imported; install python3-uci (pyuci)")
    from connbal.uci.embedded import EmbeddedStore

    return EmbeddedStore(config_dir)
