"""UCI configuration text: bytes to values and back, as libuci does. Pure: no files.

The language is line-based: a command (``package``, ``config``, ``option``, ``list``, or the first letter alone) and
its words. Quotes may stand anywhere in a word. libuci works in one line buffer and cuts words out of it in place,
and some of that shows in what it accepts; :mod:`connbal.uci.buffer` keeps the behaviour that shows:

- ``;`` ends a command only after a word with a quote or an escape in it, or standing alone after a space. Right
  after a plain word it is overwritten by the word's terminator, and the rest of the line is lost in silence.
- A backslash at the end of a line joins the next one to it, except in comments and single quotes.
- A NUL byte hides the rest of what was read at once, which depends on the size of the buffer.
- An option with an empty value is no option, and leaves an earlier one of that name alone; an empty list item counts.

Checked against the real libuci (2025) with random input, and held by the vectors.
"""

from __future__ import annotations

import re

from connbal.uci.package import Package, Section, Value, anonymous_name

#: What section and option names may consist of: shell variable names are made of them.
NAME = re.compile(r"[A-Za-z0-9_]+")

# Lines that need no buffer, on text of which each character is one byte.
_EMPTY_LINES = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\n)+")
_CONFIG_LINE = re.compile(r"[ \t]*config[ \t]+([A-Za-z0-9_-]+)(?:[ \t]+(?:'([A-Za-z0-9_]+)'|([A-Za-z0-9_]+)))?[ \t]*\n")
_VALUE = r"(?:'([^'\n]*)'|([A-Za-z0-9_.:/,-]+))"
_OPTION_LINE = re.compile(rf"[ \t]*(option|list)[ \t]+([A-Za-z0-9_]+)[ \t]+{_VALUE}[ \t]*\n")
_OPTION_LINES = re.compile(f"(?:{_OPTION_LINE.pattern})+")


def parse(text: bytes | str, package: str) -> Package:
    """Read the configuration file ``text`` as package ``package``.

    A ``package`` line in the text is checked and otherwise ignored, as libuci does with a file it was asked for.

    Raises
    ------
    ConfigError: libuci would refuse this text. Nothing of it is used then.
    """
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else bytes(text)
    drafts = Drafts(data)
    at = drafts.take_plain_lines(0)
    if at < len(data):
        from connbal.uci.buffer import Rest

        Rest(data, at, package, drafts).read()
    return drafts.package(package)


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


def _escaped(text: str) -> str:
    """``text`` for between single quotes: nothing but the quote itself means anything there."""
    return text.replace("'", "'\\''")


class Draft:
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


class Drafts:
    """The sections read so far. ``current``: the one that options belong to."""

    def __init__(self, data: bytes) -> None:
        # How much a NUL hides depends on what was read before it: then every line goes through the buffer.
        self._plain = None if b"\0" in data else data.decode("latin-1")
        self._ascii = data.isascii()
        self._sections: list[Draft] = []
        self._by_name: dict[str, Draft] = {}
        self.current: Draft | None = None

    def package(self, name: str) -> Package:
        """All of them."""
        return Package(name, tuple(section.done() for section in self._sections))

    def named(self, name: str) -> Draft | None:
        """The section called so."""
        return self._by_name.get(name) if name else None

    def open(self, kind: str, name: str) -> None:
        """Begin a section, or go on with the earlier one of that name. ``name`` may be empty."""
        draft = self.named(name)
        if draft is None:
            given = name or anonymous_name(len(self._sections) + 1, kind)
            draft = Draft(given, kind, anonymous=not name)
            self._sections.append(draft)
            self._by_name.setdefault(given, draft)
        self.current = draft

    def take_plain_lines(self, at: int) -> int:
        """Carry out the lines from byte ``at`` on, the first of a line, that need no buffer; where the others begin.

        They are nearly all of most files, and quickly done.
        """
        text = self._plain
        while text is not None:
            if self.current is not None and (match := _OPTION_LINES.match(text, at)):
                self._put_all(self.current, _OPTION_LINE.findall(text, at, match.end()))
            elif match := _EMPTY_LINES.match(text, at):
                pass
            elif not (match := _CONFIG_LINE.match(text, at)) or not self._open_plain(match):
                break
            at = match.end()
        return at

    def _put_all(self, section: Draft, lines: list[tuple[str, str, str, str]]) -> None:
        for command, option, quoted, bare in lines:
            value = quoted or bare
            if not self._ascii:
                value = value.encode("latin-1").decode("utf-8", "surrogateescape")
            section.put(option, value, is_list=command == "list")

    def _open_plain(self, match: re.Match[str]) -> bool:
        """Begin a section; False where that is an error, for others to explain."""
        kind, name = match[1], match[2] or match[3] or ""
        known = self.named(name)
        if known is not None and known.type != kind:
            return False
        self.open(kind, name)
        return True
