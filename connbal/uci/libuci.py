"""The store that has libuci read and write the text, by its Python binding pyuci (module ``uci``, python3-uci).

The binding cannot be let loose on the configuration directory itself. A context of libuci always applies what is
staged in /tmp/.uci, whatever directory it is given beside it, and would commit others' unfinished changes with ours;
newer ones let a file in /var/run/uci come first; and the binding tells neither which sections are anonymous nor why
a commit failed, decodes values as strict UTF-8, and refuses every reorder (pyuci 0.10.3). So libuci works on
a private copy under a name that nobody else uses. Changes reach it in its own notation, as a delta file, which has
reorder too; what it makes of them is its canonical text, read by :func:`connbal.uci.text.parse`. Locks, and putting the
result in place, are the same as in the embedded store.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from connbal.errors import ConfigError
from connbal.uci import text
from connbal.uci.edit import TYPE, Change, Editor, delta
from connbal.uci.package import Package
from connbal.uci.store import FileStore

#: Makes libuci write a file anew in canonical form, with nothing changed.
_NOTHING = (Change("", "connbal_nothing", None, "nothing"), Change("-", "connbal_nothing"))


def available() -> bool:
    """Whether the binding can be imported."""
    try:
        import uci
    except ImportError:
        return False
    return hasattr(uci, "Uci")


class LibuciStore(FileStore):
    """Real libuci, the default on OpenWrt."""

    kind = "libuci"

    def _parse(self, package: str, data: bytes) -> Package:
        canonical = self._canonical(package, data, _NOTHING)
        direct = text.parse(data, package)
        if not all(TYPE.fullmatch(section.type) for section in direct.sections):
            return direct  # libuci reads such types, but not what it writes for them
        return text.parse(canonical, package)

    def _render(self, package: str, data: bytes, editor: Editor) -> bytes:
        return self._canonical(package, data, editor.changes)

    def _canonical(self, package: str, data: bytes, changes: Iterable[Change]) -> bytes:
        """What ``uci commit`` makes of a file with ``data`` and staged ``changes``.

        Raises ConfigError where libuci refuses ``data``, or the temporary directory cannot be written.
        """
        try:
            return self._try(package, data, changes)
        except OSError as error:
            why = f"no private copy for libuci in {_temporary_directory()}: {error.strerror or error}; make room there"
            raise ConfigError(package, None, None, why) from error

    def _try(self, package: str, data: bytes, changes: Iterable[Change]) -> bytes:
        name = f"connbal_{os.urandom(8).hex()}"
        root = os.path.join(_temporary_directory(), name)
        config, staged = os.path.join(root, "config"), os.path.join(root, "staged")
        os.mkdir(root, 0o700)
        try:
            for directory, content in ((config, data), (staged, text.encode(delta(name, changes)))):
                os.mkdir(directory)
                _create(os.path.join(directory, name), content)
            if not _commit(name, config, staged):
                text.parse(data, package)  # to say where and why
                raise ConfigError(package, None, None, "libuci cannot read this file; look for unusual characters")
            with open(os.path.join(config, name), "rb") as file:
                return file.read()
        finally:
            _remove(root)


def _commit(name: str, config: str, staged: str) -> bool:
    """Have libuci commit what is staged for ``name``; False where it refuses the file."""
    import uci

    context = uci.Uci(savedir=staged, confdir=config)
    try:
        context.commit(name)
    except uci.UciException:
        return False
    return True


def _temporary_directory() -> str:
    return os.environ.get("TMPDIR") or "/tmp"


def _create(path: str, content: bytes) -> None:
    with open(path, "xb") as file:
        file.write(content)


def _remove(root: str) -> None:
    """Remove the private copy; what cannot be removed is left, it is in a temporary directory."""
    for directory, _, names in os.walk(root, topdown=False):
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(directory, name))
        with contextlib.suppress(OSError):
            os.rmdir(directory)
