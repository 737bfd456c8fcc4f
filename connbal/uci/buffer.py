"""libuci's line buffer, for the lines of a configuration that need it: the few that are not plain.

libuci works in one line buffer and cuts words out of it in place, and some of that shows in what it accepts. What shows
is told in :mod:`connbal.uci.text`, which imports this where there is such a line. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NoReturn

from connbal.errors import ConfigError
from connbal.uci.text import Drafts

_BLANKS = re.compile(rb"[ \t]*")
_SPACE = re.compile(rb"\s*")
_WORD = re.compile(rb"[^ \t]*")
_PLAIN = re.compile(rb"[^\s'\"#;\\]*")
_IN_SINGLE = re.compile(rb"[^']*")
_IN_DOUBLE = re.compile(rb"[^\"\\]*")
_SPACES = frozenset(b" \t\n\v\f\r")

_COMMANDS = {word[:length]: word for word in (b"package", b"config", b"option", b"list") for length in (1, len(word))}
NAME = re.compile(rb"[A-Za-z0-9_]+")
PACKAGE = re.compile(rb"[A-Za-z0-9_-]+")
TYPE = re.compile(rb"[!-~]+")


def decoded(word: bytes) -> str:
    """Bytes of the file as text."""
    return word.decode("utf-8", "surrogateescape")


def shown(text: bytes | str) -> str:
    """``text`` for a message: quoted, printable, and short."""
    word = decoded(text) if isinstance(text, bytes) else text
    return ascii(word if len(word) <= 60 else word[:57] + "...")


class Malformed(Exception):
    """Why the text at the current place is refused."""


class Buffer:
    """The text read so far of the current command line, and a position in it.

    ``self.text`` ends where libuci's buffer has its NUL: cutting it there is how a character is "overwritten".
    """

    def __init__(self, data: bytes) -> None:
        self.line = 0  # 1-based, of what was fetched last; 0 before that
        self.text = bytearray()
        self.at = 0
        self._data = data
        self._offset = 0
        self._ended = 0  # line feeds before that
        self._size = 32  # of libuci's buffer; decides how much a NUL byte hides

    def more(self) -> bool:
        """Whether there is anything left to fetch."""
        return self._offset < len(self._data)

    def skip_to(self, offset: int) -> None:
        """Go on at ``offset`` of the data, the beginning of a line further down."""
        self._ended += self._data.count(b"\n", self._offset, offset)
        self._offset = offset

    @property
    def offset(self) -> int:
        """How much of the data has been fetched or skipped."""
        return self._offset

    def fetch(self, at: int) -> None:
        """Replace everything from position ``at`` by the next line; by nothing at the end of the data."""
        if at >= self._size - 1:
            self._size *= 2
        del self.text[at:]
        if self.more():  # not one line for each fetch: where a NUL byte hides the rest, one line takes several
            self.line = self._ended + 1
        while True:
            chunk = self._read(self._size - len(self.text) - 1).partition(b"\0")[0]
            self.text += chunk
            if not chunk or chunk.endswith(b"\n"):
                return
            self._size *= 2

    def _read(self, limit: int) -> bytes:
        """The rest of a line with its newline, at most ``limit`` bytes of it."""
        start, end = self._offset, self._offset + limit
        newline = self._data.find(b"\n", start, end)
        self._offset = min(end, len(self._data)) if newline < 0 else newline + 1
        self._ended += newline >= 0
        return self._data[start : self._offset]

    def _end(self) -> bool:
        return self.at >= len(self.text)

    def skip_space(self) -> None:
        """Go to the next character that is no white space."""
        self._take(_SPACE)

    def _take(self, pattern: re.Pattern[bytes]) -> bytes:
        """Take what matches from here on and go behind it."""
        match = pattern.match(self.text, self.at)
        assert match is not None  # every pattern used here matches nothing, too
        found, self.at = match.group(), match.end()
        del match  # a live match forbids growing the bytearray
        return found

    def command(self) -> bytes | None:
        """Take the command word and one blank after it; None where nothing or a comment is left."""
        self._take(_BLANKS)
        word = self._take(_WORD)
        if not word or word.startswith(b"#"):
            return None
        if word not in _COMMANDS:
            if word.strip() in _COMMANDS:
                raise Malformed(f"{shown(word.strip())} is followed by nothing; complete the line or remove it")
            remedy = "a line starts with config, option, list or #, and values with spaces in them need quotes"
            raise Malformed(f"{shown(word.strip())} is no command; {remedy}")
        if self._end():
            raise Malformed(f"{shown(word)} is followed by nothing; complete the line or remove it")
        self.at += 1
        return _COMMANDS[word]

    def word(self) -> bytes:
        """Take the next word, without its quotes; empty where there is none."""
        self.skip_space()
        if self.text[self.at : self.at + 1] == b";":
            self.at += 1
            return b""
        start, word = self.at, bytearray()
        while not self._end() and self._take_part(word):
            if self._end() or self.text[self.at] in _SPACES:
                break
        if self._end():
            return bytes(word)
        if self.text[self.at] != ord(";"):
            self.at += 1
        elif start + len(word) == self.at:  # a plain word: its terminator falls on the semicolon
            del self.text[self.at :]
        return bytes(word)

    def _take_part(self, word: bytearray) -> bool:
        """Append the next quoted or plain part to ``word``; False where ``#`` or ``;`` ends it."""
        character = self.text[self.at]
        if character == ord("#"):
            del self.text[self.at :]
            return False
        if character == ord(";"):
            return False
        if character == ord("'"):
            self._take_quoted(word, _IN_SINGLE, "'")
        elif character == ord('"'):
            self._take_quoted(word, _IN_DOUBLE, '"')
        elif character == ord("\\"):
            self._take_escaped(word)
        else:
            word += self._take(_PLAIN)
        return True

    def _take_quoted(self, word: bytearray, content: re.Pattern[bytes], quote: str) -> None:
        opened = self.line
        self.at += 1
        while True:
            word += self._take(content)
            if self._end():
                self.fetch(self.at)
                if self._end():
                    raise Malformed(f"the {quote} opened in line {opened} is never closed; add the closing one")
            elif self.text[self.at] == ord(quote):
                self.at += 1
                return
            else:
                self._take_escaped(word)

    def _take_escaped(self, word: bytearray) -> None:
        """Take a backslash and the character it protects, or join the next line."""
        self.at += 1
        if bytes(self.text[self.at : self.at + 3]) in (b"", b"\n", b"\r\n"):
            self.fetch(self.at)
        else:
            word.append(self.text[self.at])
            self.at += 1


class Rest:
    """Carries out the commands of a text from its first line on that is not plain.

    data, at: the text, and the byte at which that line begins. drafts: the sections before it; those after it go there.
    """

    def __init__(self, data: bytes, at: int, package: str, drafts: Drafts) -> None:
        self._buffer = Buffer(data)
        self._buffer.skip_to(at)
        self._package, self._drafts = package, drafts
        self._option: str | None = None

    def read(self) -> None:
        """Read to the end. Raises ConfigError."""
        try:
            while self._buffer.more():
                self._buffer.at = 0
                self._buffer.fetch(0)
                for command in self._commands():
                    self._carry_out(command)
                self._buffer.skip_to(self._drafts.take_plain_lines(self._buffer.offset))
        except Malformed as error:
            self._refuse(str(error))

    def _commands(self) -> Iterator[bytes]:
        self._buffer.skip_space()
        while (command := self._buffer.command()) is not None:
            yield command

    def _refuse(self, why: str) -> NoReturn:
        section = current.name if (current := self._drafts.current) else None
        raise ConfigError(self._package, section, self._option, why, line=self._buffer.line) from None

    def _carry_out(self, command: bytes) -> None:
        if command == b"package":
            self._check(self._required("package", "a name"), PACKAGE, "package name", "letters, digits, _ and -")
            self._end_of_command()
        elif command == b"config":
            self._config()
        else:
            self._set_option(is_list=command == b"list")
        self._option = None

    def _config(self) -> None:
        self._drafts.current = None
        kind = self._required("config", "a type")
        self._check(kind, TYPE, "section type", "printable ASCII without spaces")
        name = self._buffer.word()
        if name:
            self._check(name, NAME, "section name", "letters, digits and _")
        self._end_of_command()
        self._open_section(decoded(kind), decoded(name))

    def _open_section(self, kind: str, name: str) -> None:
        """Begin the section a ``config`` line means: a new one, or the earlier one of that name."""
        known = self._drafts.named(name)
        if known is not None and known.type != kind:
            self._drafts.current = known
            raise Malformed(
                f"the section is a {shown(known.type)} above and a {shown(kind)} here; rename one of the two"
            )
        self._drafts.open(kind, name)

    def _set_option(self, *, is_list: bool) -> None:
        command = "list" if is_list else "option"
        section = self._drafts.current
        if section is None:
            raise Malformed(f"{command} before the first config line; put it below one")
        name = self._required(command, "a name")
        self._check(name, NAME, f"{command} name", "letters, digits and _")
        self._option = decoded(name)
        value = decoded(self._buffer.word())
        self._end_of_command()
        section.put(self._option, value, is_list=is_list)

    def _required(self, command: str, what: str) -> bytes:
        word = self._buffer.word()
        if not word:
            raise Malformed(f"{command} without {what}; write it after {command}")
        return word

    def _end_of_command(self) -> None:
        self._buffer.skip_space()
        extra = self._buffer.word()
        if extra:
            raise Malformed(f"{shown(extra)} is one word too many; a value with spaces in it needs quotes")

    def _check(self, word: bytes, allowed: re.Pattern[bytes], what: str, description: str) -> None:
        if not allowed.fullmatch(word):
            raise Malformed(f"{shown(word)} is no {what}; allowed are {description}")


def arguments(data: bytes) -> Iterator[str]:
    """The lines of a delta file without their quotes. As libuci does, this passes over those that it cannot read."""
    buffer = Buffer(data)
    while buffer.more():
        buffer.at = 0
        try:
            buffer.fetch(0)
            word = buffer.word()
            buffer.skip_space()
        except Malformed:
            continue
        if word and buffer.at >= len(buffer.text):
            yield decoded(word)
