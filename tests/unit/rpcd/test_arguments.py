"""What is taken as arguments, and the command lines that become of them."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connbal.cli.main import cli
from connbal.errors import UsageError
from connbal.rpcd import arguments, methods
from connbal.rpcd.words import words
from connbal.uci.schema import SECTIONS


def made(method: str, **given: Any) -> list[str]:
    found = methods.find("connbal", method)
    assert found is not None
    return words(method, arguments.check(found, given))


GOOD: list[tuple[str, dict[str, Any], str]] = [
    ("status", {}, "status --json"),
    ("status", {"ubus_rpc_session": "00"}, "status --json"),
    ("list", {"type": "policy"}, "policy list --json"),
    ("show", {"type": "rule", "name": "@rule[0]"}, "rule show --json -- @rule[0]"),
    ("show", {"type": "globals"}, "globals show --json"),
    ("show", {"type": "globals", "name": "globals"}, "globals show --json"),
    ("check", {}, "check --json"),
    ("explain", {"src": "192.0.2.1", "dst": "8.8.8.8", "dport": 443, "sport": "", "iif": None},
     "explain --json --src=192.0.2.1 --dst=8.8.8.8 --dport=443"),
    ("diagnose", {}, "diagnose --json --"),
    ("diagnose", {"interface": "--help"}, "diagnose --json -- --help"),
    ("add", {"type": "rule", "options": {"use_policy": "p", "dest_port": ["80", "443"], "sticky": "1"}},
     "rule add --json --use-policy=p --dest-port=80 --dest-port=443 --sticky --"),
    ("add", {"type": "member", "name": "-x", "options": {"interface": "--json", "metric": ""}},
     "member add --json --interface=--json -- -x"),
    ("set", {"type": "interface", "name": "wan", "options": {"enabled": "off", "track_ip": []}, "unset": ["down"]},
     "interface set --json --no-enabled --unset=down --unset=track_ip -- wan"),
    ("set", {"type": "globals", "options": {"affinity": "pair"}}, "globals set --json --affinity=pair"),
    ("move", {"name": "r", "place": "first"}, "rule move --json --first -- r"),
    ("move", {"type": "rule", "name": "r", "place": "to", "other": 3}, "rule move --json --to=3 -- r"),
    ("move", {"name": "r", "place": "before", "other": "--up"}, "rule move --json --before=--up -- r"),
    ("delete", {"type": "policy", "name": "p", "cascade": True}, "policy delete --json --cascade -- p"),
    ("delete", {"type": "rule", "name": "r", "cascade": True}, "rule delete --json -- r"),
    ("delete", {"type": "policy", "name": "p", "cascade": False}, "policy delete --json -- p"),
    ("rename", {"type": "member", "name": "--a", "new": "--b"}, "member rename --json -- --a --b"),
    ("setup", {"scenario": "device", "options": {"ip": "192.0.2.7", "use": ["a", "b"], "else": "c", "name": "TV"}},
     "setup device --json --ip=192.0.2.7 --use=a --use=b --else=c --name=TV --"),
    ("setup", {"scenario": "failover", "options": {"interfaces": ["--x", "b"], "dry_run": True}},
     "setup failover --json --dry-run -- --x b"),
    ("setup", {"scenario": "split", "options": {"shares": {"a": 2, "b": 1}, "affinity": "pair"}, "dry_run": True},
     "setup split --json --dry-run --affinity=pair -- a=2 b=1"),
    ("apply", {}, "apply --json"),
    ("apply", {"confirm": 60}, "apply --confirm=60 --json"),
    ("add", {"type": "rule", "name": "--x", "confirm": "90"}, "rule add --confirm=90 --json -- --x"),
    ("move", {"name": "--json", "place": "up", "confirm": 5}, "rule move --confirm=5 --json --up -- --json"),
    ("setup", {"scenario": "failover", "options": {"interfaces": ["a"]}, "confirm": 30},
     "setup failover --confirm=30 --json -- a"),
    ("confirm", {}, "confirm --json"),
    ("confirm", {"revert": True}, "confirm --json --revert"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "given", "line"), GOOD)
def test_calls_as_command_lines(method: str, given: dict[str, Any], line: str) -> None:
    assert " ".join(made(method, **given)) == line


def test_every_method_has_an_example() -> None:
    assert {method for method, _, _ in GOOD} == {one.name for one in methods.CONNBAL}


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("status", {"x": 1}, "method status has no argument 'x'"),
    ("list", {}, "argument type is missing"),
    ("list", {"type": "polcy"}, "did you mean policy?"),
    ("list", {"type": "globals"}, "is none of"),
    ("list", {"type": ["rule"]}, "argument type is no string"),
    ("show", {"type": "rule"}, "argument name is missing"),
    ("show", {"type": "globals", "name": "wan"}, "one section globals only"),
    ("show", {"type": "rule", "nam": "x"}, "did you mean name?"),
    ("explain", {"src": "192.0.2.1"}, "argument dst is missing"),
    ("explain", {"dst": "8.8.8.8", "dport": 4.5}, "argument dport is no string"),
    ("explain", {"dst": "8.8.8.8", "dport": True}, "argument dport is no string"),
    ("explain", {"dst": "8.8.8.8", "dport": 10**30}, "argument dport"),
    ("diagnose", {"interface": "a\0b"}, "NUL"),
    ("diagnose", {"interface": "\ud800"}, "do not exist"),
    ("diagnose", {"interface": "x" * 2000}, "1 to 1024"),
    ("add", {"type": "member"}, "argument name is missing"),
    ("add", {"type": "rule", "options": {"src-ip": "192.0.2.1"}}, "did you mean src_ip?"),
    ("add", {"type": "rule", "options": ["x"]}, "argument options is no object"),
    ("add", {"type": "rule", "options": {"use_policy": ["a"]}}, "options.use_policy is no string"),
    ("add", {"type": "rule", "options": {"src_ip": {"a": 1}}}, "options.src_ip is no string"),
    ("add", {"type": "rule", "options": {"src_ip": [["a"]]}}, "options.src_ip[0] is no string"),
    ("add", {"type": "rule", "options": {"src_ip": ["a"] * 300}}, "at most 256"),
    ("add", {"type": "rule", "options": {"sticky": "perhaps"}}, "neither 1 nor 0"),
    ("add", {"type": "rule", "unset": ["src_ip"]}, "has no argument 'unset'"),
    ("set", {"type": "rule", "name": "r", "unset": ["--help"]}, "a rule has no option '--help'"),
    ("set", {"type": "rule", "name": "r", "unset": "src_ip"}, "argument unset is no array"),
    ("set", {"type": "rule", "name": "r", "unset": ["src_ip"], "options": {"src_ip": "192.0.2.1"}}, "at once"),
    ("move", {"name": "r", "place": "top"}, "is none of"),
    ("move", {"name": "r", "place": "to"}, "place to needs it"),
    ("move", {"name": "r", "place": "to", "other": "-1"}, "no whole number"),
    ("move", {"name": "r", "place": "up", "other": "x"}, "makes no sense"),
    ("move", {"type": "member", "name": "r", "place": "up"}, "is none of rule"),
    ("delete", {"type": "rule", "name": "r", "cascade": "yes"}, "neither true nor false"),
    ("rename", {"type": "rule", "name": "r"}, "argument new is missing"),
    ("setup", {"scenario": "magic"}, "is none of"),
    ("setup", {"scenario": "failover"}, "options.interfaces is missing"),
    ("setup", {"scenario": "split", "options": {"shares": {"a": 0}}}, "no whole number"),
    ("setup", {"scenario": "split", "options": {"shares": {"a": True}}}, "no whole number"),
    ("setup", {"scenario": "split", "options": {"shares": {"a=1": 1}}}, "is no interface"),
    ("setup", {"scenario": "device", "options": {"stage": "1"}}, "has no option 'stage'"),
    ("setup", {"scenario": "device", "options": {"dry_run": "1"}}, "neither true nor false"),
    ("apply", {"force": True}, "has no argument"),
]


@pytest.mark.parametrize(("method", "given", "said"), BAD)
def test_what_is_refused(method: str, given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        made(method, **given)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("said", [
    b"[]", b"1", b'"x"', b"null", b"{", b'{"a": NaN}', b'{"a": Infinity}', b"{} {}", b"[" * 60_000, b"\xff",
    b'{"a":' * 10_000, b'{"a": ' + b"9" * 5000 + b"}" * 2, b" " * 70_000,
])  # fmt: skip
def test_what_is_no_request(said: bytes) -> None:
    with pytest.raises(UsageError):
        arguments.parse(said)


@pytest.mark.parametrize("said", [b"", b" \n", b"{}", b"{}\n"])
def test_nothing_is_asked_for(said: bytes) -> None:
    assert arguments.parse(said) == {}


# --- nothing that is sent becomes an option ------------------------------------------------------------------------

_TEXT = st.one_of(
    st.sampled_from(["--help", "-h", "--", "-", "--json", "--stage", "--no-apply", "--config-dir=/", "--unset=x", "=",
                     "../../etc/passwd", "$(reboot)", "`id`", ";ls", "a b", "a\nb", "a\0b", "'", '"', "wan", "@rule[0]",
                     "\ud800", "\udc80", "x" * 1500]),
    st.text(max_size=20),
)  # fmt: skip
_VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), _TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_TEXT, inner, max_size=4)),
    max_leaves=8,
)
_OPTION_NAMES = sorted({name for section in SECTIONS.values() for name in section.options})
_TABLE = st.dictionaries(
    st.one_of(st.sampled_from([*_OPTION_NAMES, "ip", "use", "else", "interfaces", "shares", "dry_run"]), _TEXT),
    st.one_of(_TEXT, st.lists(_TEXT, max_size=3), _VALUE), max_size=3,
)  # fmt: skip


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A method, and arguments that are near to what it takes."""
    method = draw(st.sampled_from(methods.CONNBAL))
    found: dict[str, Any] = {}
    for one in method.arguments:
        if not one.required and draw(st.booleans()):
            continue
        right = st.sampled_from(one.words) if one.words else {"table": _TABLE, "flag": st.booleans()}.get(
            one.kind, st.lists(st.one_of(st.sampled_from(_OPTION_NAMES), _TEXT), max_size=3)
            if one.kind == "array" else _TEXT,
        )  # fmt: skip
        found[one.name] = draw(st.one_of(right, right, right, _VALUE))
    if draw(st.integers(0, 9)) == 0:
        found[draw(_TEXT)] = draw(_VALUE)
    return method.name, found


def known(argv: list[str]) -> tuple[set[str], int]:
    """The options of the command that a line is for, and how many words name it."""
    command: click.Command = cli
    depth = 0
    context = click.Context(cli)
    while isinstance(command, click.Group):
        found = command.get_command(context, argv[depth])
        assert found is not None
        command, depth = found, depth + 1
    options = [one for one in command.params if isinstance(one, click.Option)]
    return {word for one in options for word in (*one.opts, *one.secondary_opts)}, depth


@given(calls())
@settings(max_examples=500, deadline=None)
def test_values_stay_values(call: tuple[str, dict[str, Any]]) -> None:
    method, sent = call
    try:
        line = made(method, **sent)
    except UsageError:
        return
    flags, depth = known(line)
    end = line.index("--") if "--" in line else len(line)
    assert all(word.partition("=")[0] in flags for word in line[depth:end])
    assert not {word.partition("=")[0] for word in line[:end]} & {"--stage", "--no-apply", "--help", "--config-dir"}
    assert line[depth] == "--json" or line[:2] == ["setup", line[1]]
    assert all("\0" not in word for word in line)


@given(st.one_of(st.binary(max_size=200), _VALUE.map(lambda value: json.dumps(value).encode())))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_request_or_refused(said: bytes) -> None:
    with contextlib.suppress(UsageError):
        assert isinstance(arguments.parse(said), dict)
