"""UCI configuration text: bytes to values and back, as libuci does. Pure: no files.

The language is line-based: a command (``package``, ``config``, ``option``, ``list``, or the first letter alone) and
its words. Quotes may stand anywhere in a word. libuci works in one line buffer and cuts words out of it in place,
and some of that shows in what it accepts; :class:`_Buffer` keeps the behaviour that shows:

- ``;`` ends a command only after a word with a quote or an escape in it, or standing alone after a space. Right
  after a plain word it is overwritten by the word's terminator, and the rest of the line is lost in silence.
- A backslash at the end of a line joins the next one to it, except in comments and single quotes.
- A NUL byte hides the rest of what was read at once, which depends on the size of the buffer.
- An option with an empty value is no option, and leaves an earlier one of that name alone; an empty list item counts.

Checked against the real libuci (2025) with random input, and held by the vectors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NoReturn

from connbal.errors import ConfigError
from connbal.uci.package import Package, Section, Value, anonymous_name

#: What section and option names may consist of: shell variable names are made of them.
NAME = re.compile(r"[A-Za-z0-9_]+")
_NAME = re.compile(rb"[A-Za-z0-9_]+")
_PACKAGE = re.compile(rb"[A-Za-z0-9_-]+")
_TYPE = re.compile(rb"[!-~]+")

_BLANKS = re.compile(rb"[ \t]*")
_SPACE = re.compile(rb"\s*")
_WORD = re.compile(rb"[^ \t]*")
_PLAIN = re.compile(rb"[^\s'\"#;\\]*")
_IN_SINGLE = re.compile(rb"[^']*")
_IN_DOUBLE = re.compile(rb"[^\"\\]*")
_SPACES = frozenset(b" \t\n\v\f\r")

# Lines that need none of the subtleties of the buffer, on text of which each character is one byte.
_EMPTY_LINES = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\n)+")
_CONFIG_LINE = re.compile(r"[ \t]*config[ \t]+([A-Za-z0-9_-]+)(?:[ \t]+(?:'([A-Za-z0-9_]+)'|([A-Za-z0-9_]+)))?[ \t]*\n")
_VALUE = r"(?:'([^'\n]*)'|([A-Za-z0-9_.:/,-]+))"
_OPTION_LINE = re.compile(rf"[ \t]*(option|list)[ \t]+([A-Za-z0-9_]+)[ \t]+{_VALUE}[ \t]*\n")
_OPTION_LINES = re.compile(f"(?:{_OPTION_LINE.pattern})+")

_COMMANDS = {word[:length]: word for word in (b"package", b"config", b"option", b"list") for length in (1, len(word))}


def parse(text: bytes | str, package: str) -> Package:
    """Read the configuration file ``text`` as package ``package``.

    A ``package`` line in the text is checked and otherwise ignored, as libuci does with a file it was asked for.

    Raises
    ------
    ConfigError: libuci would refuse this text. Nothing of it is used then.
    """
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else bytes(text)
    return _Parser(data, package).run()


def export(package: Package, *, header: bool = True) -> str:
    """The canonical text of ``package``: what ``uci export`` prints; without ``header`` what ``uci commit`` writes.

    ``parse(export(p), p.name)`` equals ``p`` where the names of anonymous sections fit their positions.
    The text is for encoding as UTF-8 with surrogateescape: :func:`encode`.
    """
    lines = [f"package {_escaped(package.name)}\n"] if header else []
    for section in package.sections:
        name = "" if section.anonymous else f" '{_escaped(section.name)}'"
        lines.append(f"\nconfig {_escaped(section.type)}{name}\n")
        for option, value in section.options.items():
            if isinstance(value, str):
                lines.append(f"\toption {_escaped(option)} '{_escaped(value)}'\n")
            else:
                lines.extend(f"\tlist {_escaped(option)} '{_escaped(item)}'\n" for item in value)
    lines.append("\n")
    return "".join(lines)


def encode(text: str) -> bytes:
    """Text from :func:`export` as the bytes of a file."""
    return text.encode("utf-8", "surrogateescape")


def arguments(data: bytes) -> Iterator[str]:
    """The lines of a delta file without their quotes. As libuci does, this passes over those that it cannot read."""
    buffer = _Buffer(data)
    while buffer.more():
        buffer.at = 0
        try:
            buffer.fetch(0)
            word = buffer.word()
            buffer.skip_space()
        except _Malformed:
            continue
        if word and buffer.at >= len(buffer.text):
            yield _decoded(word)


def _escaped(text: str) -> str:
    """``text`` for between single quotes: nothing but the quote itself means anything there."""
    return text.replace("'", "'\\''")


def _decoded(word: bytes) -> str:
    return word.decode("utf-8", "surrogateescape")


class _Malformed(Exception):
    """Why the text at the current place is refused."""


class _Buffer:
    """The text read so far of the current command line, and a position in it.

    ``self.text`` ends where libuci's buffer has its NUL: cutting it there is how a character is "overwritten".
    """

    def __init__(self, data: bytes) -> None:
        self.line = 0  # 1-based, of what was fetched last; 0 before that
        self.text = bytearray()
        self.at = 0
        self._data = data
        self._offset = 0
        self._size = 32  # of libuci's buffer; decides how much a NUL byte hides

    def more(self) -> bool:
        """Whether there is anything left to fetch."""
        return self._offset < len(self._data)

    def skip_to(self, offset: int) -> None:
        """Go on at ``offset`` of the data, the beginning of a line further down."""
        self.line += self._data.count(b"\n", self._offset, offset)
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
        if self.more():
            self.line += 1
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
                raise _Malformed(f"{_shown(word.strip())} is followed by nothing; complete the line or remove it")
            remedy = "a line starts with config, option, list or #, and values with spaces in them need quotes"
            raise _Malformed(f"{_shown(word.strip())} is no command; {remedy}")
        if self._end():
            raise _Malformed(f"{_shown(word)} is followed by nothing; complete the line or remove it")
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
                    raise _Malformed(f"the {quote} opened in line {opened} is never closed; add the closing one")
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


class _Draft:
    """A section while it is read."""

    def __init__(self, name: str, type_: str, anonymous: bool) -> None:
        self.name, self.type, self.anonymous = name, type_, anonymous
        self.options: dict[str, str | list[str]] = {}

    def put(self, option: str, value: str, *, is_list: bool) -> None:
        """Carry out an ``option`` or ``list`` line."""
        if is_list:
            earlier = self.options.setdefault(option, [])
            if isinstance(earlier, str):
                earlier = self.options[option] = [earlier]
            earlier.append(value)
        elif value:
            self.options[option] = value

    def done(self) -> Section:
        options: dict[str, Value] = {
            name: value if isinstance(value, str) else tuple(value) for name, value in self.options.items()
        }
        return Section(self.name, self.type, self.anonymous, options)


class _Parser:
    """Carries out the commands of one text."""

    def __init__(self, data: bytes, package: str) -> None:
        self._buffer = _Buffer(data)
        self._package = package
        self._sections: list[_Draft] = []
        self._by_name: dict[str, _Draft] = {}
        self._section: _Draft | None = None
        self._option: str | None = None
        # How much a NUL hides depends on what was read before it: then every line goes through the buffer.
        self._easy = None if b"\0" in data else data.decode("latin-1")
        self._ascii = data.isascii()

    def run(self) -> Package:
        try:
            while self._buffer.more():
                if self._easy is not None:
                    self._skip_easy_lines(self._easy)
                    if not self._buffer.more():
                        break
                self._buffer.at = 0
                self._buffer.fetch(0)
                for command in self._commands():
                    self._carry_out(command)
        except _Malformed as error:
            self._refuse(str(error))
        return Package(self._package, tuple(section.done() for section in self._sections))

    def _skip_easy_lines(self, text: str) -> None:
        """Carry out the lines from here on that need no buffer: nearly all of most files, many times as fast."""
        at = self._buffer.offset
        while True:
            if self._section is not None and (match := _OPTION_LINES.match(text, at)):
                self._take_options(self._section, _OPTION_LINE.findall(text, at, match.end()))
            elif match := _EMPTY_LINES.match(text, at):
                pass
            elif not (match := _CONFIG_LINE.match(text, at)) or not self._take_config(match):
                break
            at = match.end()
        self._buffer.skip_to(at)

    def _take_options(self, section: _Draft, lines: list[tuple[str, str, str, str]]) -> None:
        for command, option, quoted, plain in lines:
            value = quoted or plain
            if not self._ascii:
                value = _decoded(value.encode("latin-1"))
            section.put(option, value, is_list=command == "list")

    def _take_config(self, match: re.Match[str]) -> bool:
        """Begin a section; False where that is an error, for others to explain."""
        kind, name = match[1], match[2] or match[3] or ""
        known = self._by_name.get(name)
        if known is not None and known.type != kind:
            return False
        self._section = self._open_section(kind, name)
        return True

    def _commands(self) -> Iterator[bytes]:
        self._buffer.skip_space()
        while (command := self._buffer.command()) is not None:
            yield command

    def _refuse(self, why: str) -> NoReturn:
        section = self._section.name if self._section else None
        raise ConfigError(self._package, section, self._option, why, line=self._buffer.line) from None

    def _carry_out(self, command: bytes) -> None:
        if command == b"package":
            self._check(self._required("package", "a name"), _PACKAGE, "package name", "letters, digits, _ and -")
            self._end_of_command()
        elif command == b"config":
            self._config()
        else:
            self._set_option(is_list=command == b"list")
        self._option = None

    def _config(self) -> None:
        self._section = None
        kind = self._required("config", "a type")
        self._check(kind, _TYPE, "section type", "printable ASCII without spaces")
        name = self._buffer.word()
        if name:
            self._check(name, _NAME, "section name", "letters, digits and _")
        self._end_of_command()
        self._section = self._open_section(_decoded(kind), _decoded(name))

    def _open_section(self, kind: str, name: str) -> _Draft:
        """The section a ``config`` line means: a new one, or the earlier one of that name."""
        known = self._by_name.get(name) if name else None
        if known is None:
            given = name or anonymous_name(len(self._sections) + 1, kind)
            known = _Draft(given, kind, anonymous=not name)
            self._sections.append(known)
            self._by_name.setdefault(given, known)
        elif known.type != kind:
            self._section = known
            raise _Malformed(
                f"the section is a {_shown(known.type)} above and a {_shown(kind)} here; rename one of the two"
            )
        return known

    def _set_option(self, *, is_list: bool) -> None:
        command = "list" if is_list else "option"
        if self._section is None:
            raise _Malformed(f"{command} before the first config line; put it below one")
        name = self._required(command, "a name")
        self._check(name, _NAME, f"{command} name", "letters, digits and _")
        self._option = _decoded(name)
        value = _decoded(self._buffer.word())
        self._end_of_command()
        self._section.put(self._option, value, is_list=is_list)

    def _required(self, command: str, what: str) -> bytes:
        word = self._buffer.word()
        if not word:
            raise _Malformed(f"{command} without {what}; write it after {command}")
        return word

    def _end_of_command(self) -> None:
        self._buffer.skip_space()
        extra = self._buffer.word()
        if extra:
            raise _Malformed(f"{_shown(extra)} is one word too many; a value with spaces in it needs quotes")

    def _check(self, word: bytes, allowed: re.Pattern[bytes], what: str, description: str) -> None:
        if not allowed.fullmatch(word):
            raise _Malformed(f"{_shown(word)} is no {what}; allowed are {description}")


def _shown(text: bytes | str) -> str:
    """``text`` for a message: quoted, printable, and short."""
    word = _decoded(text) if isinstance(text, bytes) else text
    return ascii(word if len(word) <= 60 else word[:57] + "...")
