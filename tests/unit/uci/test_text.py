"""UCI text: round trips, hostile input, and messages. What libuci itself says is in tests/test_uci_vectors.py."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connbal.errors import ConfigError
from connbal.uci import Package, Section, export, parse
from connbal.uci.package import anonymous_name
from connbal.uci.text import encode

QUICK = settings(derandomize=True, max_examples=150, deadline=None, database=None)

names = st.text("abcXYZ019_", min_size=1, max_size=6)
types = st.text("abcr-.!%&()*+,/:<=>?@[]^{|}~$`0", min_size=1, max_size=6)
characters = st.one_of(
    st.sampled_from([*list("'\"\\;# \t\n\r$`=.ab1"), "config", "\noption x '1'\n", "\x01", "\x7f"]),
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"),
    st.integers(0xDC80, 0xDCFF).map(chr),
)
texts = st.lists(characters, max_size=8).map("".join).map(lambda t: encode_and_back(t))
values = st.one_of(texts.filter(bool), st.lists(texts, min_size=1, max_size=4).map(tuple))
options = st.dictionaries(names, values, max_size=5)


def encode_and_back(text: str) -> str:
    """``text`` as it is after a file: neighbouring surrogate escapes that are UTF-8 together become a character."""
    return encode(text).decode("utf-8", "surrogateescape")


@st.composite
def packages(draw: st.DrawFn) -> Package:
    sections = []
    for place in range(1, draw(st.integers(0, 6)) + 1):
        kind, anonymous = draw(types), draw(st.booleans())
        name = anonymous_name(place, kind) if anonymous else f"n{place}{draw(names)}"
        sections.append(Section(name, kind, anonymous, draw(options)))
    return Package("t", tuple(sections))


@QUICK
@given(packages())
def test_every_package_survives_export_and_parse(package: Package) -> None:
    again = parse(encode(export(package)), "t")
    assert again == package
    assert [list(s.options) for s in again.sections] == [list(s.options) for s in package.sections]
    assert parse(export(package, header=False), "t") == package


@QUICK
@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_read_or_refused(data: bytes) -> None:
    read_or_refuse(data)


PIECES = [
    b"config rule 'a'\n",
    b"config r",
    b"\toption x '1'\n",
    b"list x ",
    b"package t\n",
    b"\n",
    b" ",
    b"'",
    b'"',
    b"\\",
]
MORE = [b"\\\n", b"\\\r\n", b"\r", b"#", b";", b"a" * 33, b"\0", b"\xff", b"\xc3\xb6", b"\v"]


@QUICK
@given(st.lists(st.sampled_from([*PIECES, *MORE]), max_size=30).map(b"".join))
def test_what_is_read_is_written_canonically_and_read_as_the_same(data: bytes) -> None:
    read_or_refuse(data)


def read_or_refuse(data: bytes) -> None:
    refusal: ConfigError | None = None
    try:
        package = parse(data, "t")
    except ConfigError as error:
        refusal = error
    if refusal is not None:
        assert refusal.package == "t"
        assert refusal.line is not None
        assert 0 < refusal.line <= data.count(b"\n") + 1
        return
    if not any(set(section.type) & set("'\"\\;#") for section in package.sections):
        canonical = encode(export(package))
        assert parse(canonical, "t") == package
        assert encode(export(parse(canonical, "t"))) == canonical


@pytest.mark.parametrize(
    ("text", "section", "option", "line", "words"),
    [
        ("config rule 'a'\n\toption x-y '1'\n", "a", None, 2, "'x-y' is no option name"),
        ("config rule 'a b'\n", None, None, 1, "'a b' is no section name"),
        ("config rule 'a'\n\n\toption x '1' 2\n", "a", "x", 3, "'2' is one word too many"),
        ("config rule 'a'\n\toption x '1\n\n\n", "a", "x", 4, "opened in line 2 is never closed"),
        ("config rule 'a'\nconfig policy 'a'\n", "a", None, 2, "is a 'rule' above and a 'policy' here"),
        ("option x 1", None, None, 1, "before the first config line"),
        ("config rule\nconfig", None, None, 2, "'config' is followed by nothing"),
        ("config rule\nhost wan", None, None, 2, "'host' is no command"),
        ("config ''\n", None, None, 1, "config without a type"),
    ],
)
def test_a_refusal_says_where_and_why(
    text: str, section: str | None, option: str | None, line: int, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "mwan3")
    error = caught.value
    assert (error.package, error.line) == ("mwan3", line)
    assert words in str(error)
    assert error.option == option
    if section:
        assert error.section == section


def test_an_error_names_the_line_of_the_file_where_a_nul_makes_several_of_it() -> None:
    """libuci reads a line with a NUL in it in pieces, and counts these."""
    with pytest.raises(ConfigError) as caught:
        parse(b"config rule\n\0" + b" " * 100 + b"\nbad line\n", "t")
    assert caught.value.line == 3


def test_an_anonymous_section_is_found_by_its_passing_name() -> None:
    package = parse("config rule\n\toption a '1'\nconfig rule 'cfg0192bd'\n\toption b '2'\n", "t")
    assert [(s.name, s.anonymous, dict(s.options)) for s in package.sections] == [
        ("cfg0192bd", True, {"a": "1", "b": "2"})
    ]


def test_find_understands_the_notation_of_the_uci_command() -> None:
    package = parse("config rule\nconfig policy 'p'\nconfig rule 'r'\n", "t")
    found = [
        package.find(r)
        for r in ("r", "@rule[0]", "@rule[-1]", "@[1]", "@policy[0]", "@rule[2]", "@rule[-3]", "@rule[x]")
    ]
    assert [s.name if s else None for s in found] == ["r", "cfg0192bd", "r", "p", "p", None, None, None]


@pytest.mark.parametrize(
    "text",
    [
        "config rule 'a'\n\toption x '" + "y" * 1_000_000 + "'\n",
        "config rule 'a'\n\toption x '" + "y\n" * 300_000 + "'\n",
        "config rule 'a'\n\toption x '" + "'\\''" * 100_000 + "'\n",
        "config rule 'a'\n\toption x " + "\\\n" * 300_000 + "\n",
        "config rule 'a'\n" + "\tlist x '1'\n" * 90_000,
        "config rule 'a'\n\toption " + "n" * 1_000_000 + " 1\n",
        "config " + "t" * 1_000_000 + "\n",
        "".join(f"config rule 'r{n}'\n\toption x '{n}'\n" for n in range(30_000)),
        "config rule\n" * 80_000,
        "config rule 'a'\n\toption x '\0" + "\0" * 1_000_000 + "'\n",
        "; " * 300_000,
    ],
    ids=range(11),
)
def test_a_megabyte_takes_linear_time(text: str) -> None:
    def seconds(part: str) -> float:
        started = time.process_time()
        try:
            package = parse(part, "t")
        except ConfigError:
            return time.process_time() - started
        export(package)
        return time.process_time() - started

    assert seconds(text) < 10  # quadratic time would be minutes


def test_long_names_and_values_are_kept() -> None:
    name, value = "n" * 10_000, "v'\n" * 10_000
    package = parse(f"config rule '{name}'\n", "t")
    section = Section(name, "rule", False, {name: value, "l": (value, "", name)})
    again = Package("t", (section,))
    assert package.sections[0].name == name
    assert parse(export(again), "t") == again
