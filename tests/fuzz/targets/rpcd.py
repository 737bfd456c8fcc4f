"""Calls over ubus: JSON is refused in words, or becomes a command line in which every value is where it belongs."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

import click

from connbal.cli.main import cli
from connbal.errors import UsageError
from connbal.rpcd import arguments, methods
from connbal.rpcd.words import words
from tests.fuzz import oracle, structure

TOKENS = (*oracle.tokens(), *(f'"{one.name}":'.encode() for method in methods.CONNBAL for one in method.arguments),
          b"{", b"}", b"[", b"]", b"true", b"null", b'"--json"', b'"--"', b'"-h"', b'"=1"', b'"@rule[0]"', b"1e99",
          b"NaN",
          b"\\u0000", b"\\ud800", b'"shares":{"wan":1}', b'"before"', b'"split"', b'"device"',
          b'"failover"')  # fmt: skip

mutate = structure.of_json(1)


def seeds() -> Iterator[bytes]:
    calls: list[tuple[str, Any]] = [
        ("list", {"type": "rule"}), ("show", {"type": "rule", "name": "@rule[0]"}), ("show", {"type": "globals"}),
        ("explain", {"src": "192.168.1.7", "dst": "8.8.8.8", "proto": "tcp", "dport": 443}), ("diagnose", {}),
        ("diagnose", {"interface": "--help"}), ("add", {"type": "rule", "options": {"proto": "tcp", "sticky": "1"}}),
        ("add", {"type": "interface", "name": "wan", "options": {"track_ip": ["1.1.1.1", "-x"], "enabled": "0"}}),
        ("set", {"type": "policy", "name": "p", "options": {"use_member": ["a", "b"]}, "unset": ["last_resort"]}),
        ("set", {"type": "globals", "options": {"mmx_mask": "0x3F00"}, "ubus_rpc_session": "0" * 32}),
        ("move", {"type": "rule", "name": "a", "place": "before", "other": "b"}),
        ("move", {"type": "rule", "name": "a", "place": "to", "other": 3}), ("delete", {"type": "rule", "name": "-f"}),
        ("delete", {"type": "member", "name": "m", "cascade": True}),
        ("rename", {"type": "rule", "name": "--", "new": "--json"}),
        ("setup", {"scenario": "split", "options": {"shares": {"wan": 2, "wan1": 1}, "affinity": "pair"}}),
        ("setup", {"scenario": "device", "options": {"ip": "192.168.1.7", "use": ["wan"], "else": "wan1"}}),
        ("setup", {"scenario": "failover", "options": {"interfaces": ["wan", "wan1"], "dest_port": ["443"]}}),
    ]  # fmt: skip
    names = [method.name for method in methods.CONNBAL]
    for name, given in calls:
        yield bytes([names.index(name)]) + json.dumps(given).encode()


def check(data: bytes) -> None:
    method = methods.CONNBAL[(data[0] if data else 0) % len(methods.CONNBAL)]
    try:
        given = arguments.check(method, arguments.parse(data[1:]))
        argv = words(method.name, given)
    except UsageError as error:
        oracle.is_message(str(error))
        return
    _is_where_it_belongs(argv, given)


def _is_where_it_belongs(argv: list[str], given: dict[str, Any]) -> None:
    """click, which will read the line, finds no other options than were meant, and the values as they were given."""
    at = next(at for at, word in enumerate(argv) if word.startswith("-"))
    command = _command(tuple(argv[:at]))
    assert "--json" in argv[at:]
    end = argv.index("--", at) if "--" in argv[at:] else len(argv)
    names, values = _told(given)
    for word in argv[at:end]:
        option, _, value = word.partition("=")
        assert option.startswith("--")
        assert option in {name for one in command.params for name in (*one.opts, *one.secondary_opts)}, word
        known = option.removeprefix("--").removeprefix("no-").replace("-", "_")
        assert known in names, word
        assert not value or value in values, word
    read, rest, _ = command.make_parser(click.Context(command)).parse_args(list(argv[at:]))
    assert not rest
    for value in read.values():
        assert set(_several(value)) <= values, value
    arguments_ = [one.name for one in command.params if isinstance(one, click.Argument)]
    placed = [one for name in arguments_ for one in _several(read.get(name or ""))]
    assert placed == argv[end + 1 :], "what stands behind -- is no option"


def _several(value: Any) -> list[str]:
    """What click has for an argument; nothing stands for itself there, in one way or another."""
    return [one for one in (value if isinstance(value, list | tuple) else [value]) if isinstance(one, str)]


@functools.lru_cache(maxsize=64)
def _command(path: tuple[str, ...]) -> click.Command:
    found: click.Command = cli
    for word in path:
        assert isinstance(found, click.Group)
        inner = found.get_command(click.Context(found), word)
        assert inner is not None, path
        found = inner
    return found


def _told(value: Any, name: str = "") -> tuple[set[str], set[str]]:
    """The names and the texts in what was given; the names of the options that stand for more than themselves, too."""
    names, texts = {"json", "unset", "cascade", "first", "last", "up", "down", "before", "after", "to", "dry_run"}, {""}
    if isinstance(value, dict):
        for key, one in value.items():
            inner = _told(one, key)
            names |= {key, *inner[0]}
            texts |= {*inner[1], key, f"{key}={one}"}
    elif isinstance(value, list):
        for one in value:
            inner = _told(one, name)
            names |= inner[0]
            texts |= inner[1]
    else:
        texts.add(str(value))
    return names, texts
