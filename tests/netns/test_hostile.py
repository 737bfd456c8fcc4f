"""Whatever is written in a configuration, only checked values reach the kernel, and what is good still works."""

from __future__ import annotations

import ipaddress
import json
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connbal.errors import ConfigError
from connbal.kernel.ipset import create_line
from connbal.model.config import Family
from connbal.model.facts import Facts, SetFacts
from connbal.plan.build import plan
from connbal.plan.diff import diff, rendered
from connbal.plan.ledger import Ledger
from connbal.plan.state import KernelState
from connbal.plan.values import Plan
from connbal.uci import Package, Section, Value, export, parse
from connbal.uci.decode import decode
from connbal.uci.schema import SECTIONS
from connbal.uci.text import encode
from tests.fakes.build import machine
from tests.lab import Lab, snapshot
from tests.netns.rivals.grammar import RULES, SETS, strangers
from tests.netns.rivals.router import Router

#: ``@FILE@`` is a file that exists only if a shell got hold of the text.
HOSTILE = {
    "line feed": "80\n-A OUTPUT -j DROP\nCOMMIT",
    "line feed at the end": "tcp\n",
    "carriage return": "wan\r-A OUTPUT -j DROP",
    "quotes": "a\" -j DROP -m comment --comment \"b' 'c",
    "option": "--jump DROP",
    "another option": "! -j DROP",
    "shell": "$(touch @FILE@)`touch @FILE@`; touch @FILE@ | touch @FILE@ & touch @FILE@",
    "long": "a" * 10_000,
    "long number": "9" * 10_000,
    "control characters": "\x01\x1b[31mred\x7f\x08",
    "backslashes": "\\\\\\n\\0\\",
    "not UTF-8": "\udcff\udcfe",
    "other digits": "٣٤",
    "blanks": " \t ",
    "path": "../../../../etc/passwd",
    "ipset": "x family inet6\nflush",
}

_SOUND: dict[str, dict[str, Value]] = {
    "globals": {},
    "interface": {"enabled": "1"},
    "member": {"interface": "wan"},
    "policy": {"use_member": ("m_wan",)},
    # Of all that a rule says, only the hostile part may cost it: so that it catches nothing even if it stays.
    "rule": {"src_ip": "192.0.2.1", "use_policy": "to_wan"},
}


def good(kind: str, name: str, **options: Value) -> Section:
    return Section(name, kind, False, options)


FIRST = (
    good("interface", "wan", enabled="1"), good("interface", "wan6", enabled="1", family="ipv6"),
    good("interface", "wan1", enabled="1"), good("interface", "wan1_6", enabled="1", family="ipv6"),
    good("member", "m_wan", interface="wan"), good("member", "m_wan6", interface="wan6"),
    good("member", "m_wan1", interface="wan1"), good("member", "m_wan1_6", interface="wan1_6"),
    good("policy", "to_wan", use_member=("m_wan", "m_wan6")),
    good("policy", "to_wan1", use_member=("m_wan1", "m_wan1_6")),
    good("policy", "both", use_member=("m_wan", "m_wan1", "m_wan6", "m_wan1_6")),
)  # fmt: skip
LAST = (
    good("rule", "web", proto="tcp", dest_port="80", use_policy="to_wan1"),
    good("rule", "rest", use_policy="to_wan"),
)


def victims(text: str) -> list[Section]:
    """A section for each option there is, with the text as its value, and as two entries of a list."""
    found = []
    for kind, spec in SECTIONS.items():
        if kind == "globals":
            found.append(Section("globals", kind, False, dict.fromkeys(spec.options, text)))
            continue
        for option in spec.options:
            options = {**_SOUND[kind], option: text}
            found.append(Section(f"v_{kind}_{option}", kind, False, options))
            if kind == "rule":
                found.append(Section(f"l_{kind}_{option}", kind, False, {**options, option: (text, "1", text)}))
    return found


def package(sections: Sequence[Section]) -> Package:
    return Package("mwan3", (*FIRST, *sections, *LAST))


# --- for real ---------------------------------------------------------------------------------------------------------

_RECORDER = """#!/bin/sh
case "$1" in save|list|-L|--version) exec '@REAL@' "$@";; esac
text=$(mktemp '@DIR@/@NAME@.XXXXXX')
cat >"$text"
exec '@REAL@' "$@" <"$text"
"""


class Recorded(Router):
    """A router whose restore programs keep what they are given."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.directory = lab.tmp / "recorded"
        self.directory.mkdir()
        real = self.directory / "real"
        real.mkdir()
        for name in ("iptables-restore", "ip6tables-restore"):
            self._stand_before(name, (lab.bin_dir / name).resolve(), real)
        ipset = self.node.run(["sh", "-c", "command -v ipset"]).stdout.strip()
        self._stand_before("ipset", Path(ipset), real)

    def _stand_before(self, name: str, program: Path, real: Path) -> None:
        (real / name).symlink_to(program)
        script = self.lab.bin_dir / name
        script.unlink(missing_ok=True)
        text = _RECORDER.replace("@REAL@", str(real / name)).replace("@DIR@", str(self.directory))
        script.write_text(text.replace("@NAME@", name))
        script.chmod(0o755)

    def texts(self, pattern: str) -> list[str]:
        return [path.read_bytes().decode("utf-8", "surrogateescape") for path in self.directory.glob(pattern)]

    def nothing_strange_was_written(self) -> None:
        rules, sets = self.texts("ip*tables-restore.*"), self.texts("ipset.*")
        assert rules
        assert sets
        assert [line for text in rules for line in strangers(text, RULES)] == []
        assert [line for text in sets for line in strangers(text, SETS)] == []


@pytest.fixture(scope="module")
def router(lab_available: None) -> Iterator[Recorded]:
    with Lab(("wan", "wan1")) as lab:
        yield Recorded(lab)


def write(router: Recorded, sections: Sequence[Section]) -> None:
    (router.lab.config_dir / "mwan3").write_bytes(encode(export(package(sections), header=False)))


def plain(text: str) -> bool:
    """What may be shown on a terminal."""
    return all(line.isascii() and line.isprintable() for line in text.split("\n")) and len(text) < 200_000


def the_good_ones_work(router: Recorded) -> None:
    for family in (4, 6):
        assert router.lab.tcp("pc", port=80, count=4, family=family).names == Counter({"wan1": 4})
        assert router.lab.tcp("pc", port=443, count=4, family=family).names == Counter({"wan": 4})


@pytest.mark.netns
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_value_in_every_option(router: Recorded, kind: str) -> None:
    trap = router.lab.tmp / "trap"
    write(router, victims(HOSTILE[kind].replace("@FILE@", str(trap))))
    before = (router.lab.config_dir / "mwan3").read_bytes()
    check = router.connbal("check", check=False)
    assert check.returncode == 1
    applied = router.connbal("apply")
    assert "Traceback" not in check.stderr + applied.stderr
    assert plain(check.stderr)
    assert plain(applied.stderr + applied.stdout)
    router.nothing_strange_was_written()
    the_good_ones_work(router)
    assert not trap.exists()
    assert (router.lab.config_dir / "mwan3").read_bytes() == before
    # What went in is all there, and known: a second run has nothing to do.
    assert json.loads(router.connbal("apply", "--json").stdout)["changes"] == []


@pytest.mark.netns
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_section_name(router: Recorded, kind: str) -> None:
    """A file that UCI does not take changes nothing; where UCI takes the name, what is good works."""
    trap = router.lab.tmp / "trap"
    name = HOSTILE[kind].replace("@FILE@", str(trap))
    write(router, [])
    router.apply()
    before = snapshot(router.node)
    for section_type in SECTIONS:
        write(router, [Section(name, section_type, False, _SOUND[section_type])])
        done = router.connbal("apply", check=False)
        assert done.returncode in (0, 1)
        assert "Traceback" not in done.stderr
        assert plain(done.stderr)
        assert (done.returncode == 0) == (name.isascii() and name.isalnum())
        if done.returncode:
            assert re.match(r"connbal: mwan3.*, line \d+: ", done.stderr)
            assert snapshot(router.node) == before
            break  # the same answer for every type
    router.nothing_strange_was_written()
    the_good_ones_work(router)
    assert not trap.exists()


@pytest.mark.netns
@pytest.mark.parametrize("device", ["e;x", "e$x", "e|x", "e>x", "e&x", "e*x", 'e"x', "e'x", "e\\x", "e`x", "-x", "e+"])
def test_a_hostile_device(router: Recorded, device: str) -> None:
    """A device may have almost any name: one that no rule can name costs its interface alone."""
    lab = router.lab
    real = lab.source("wan1").device
    network = lab.config_dir / "network"
    before = network.read_text()
    write(router, [good("rule", "by_device", src_iface="hostile", use_policy="to_wan1")])
    lab.router.run(["ip", "link", "add", "name", device, "type", "bridge"])
    lab.router.run(["ip", "link", "set", "dev", device, "up"])
    try:
        quoted = device.replace("'", "'\\''")
        network.write_text(before.replace(f"'{real}'", f"'{quoted}'")
                           + f"config interface 'hostile'\n\toption device '{quoted}'\n")  # fmt: skip
        done = router.connbal("apply")
        assert "Traceback" not in done.stderr
        router.nothing_strange_was_written()
        assert "mwan3_iface_in_wan1" not in router.mangle()
        assert lab.tcp("pc", port=443, count=4).names == Counter({"wan": 4})
    finally:
        network.write_text(before)
        lab.router.run(["ip", "link", "del", "dev", device])
    router.connbal("apply")
    the_good_ones_work(router)


@pytest.mark.netns
@pytest.mark.parametrize("value", ["e-wan1\n-A OUTPUT -j DROP", "e-wan1 -j DROP", "$(reboot)", "a" * 500, ["e-wan1"]])
def test_a_hostile_netifd(router: Recorded, value: object) -> None:
    lab = router.lab
    write(router, [])
    lab.ubus_stub()
    dump = lab.tmp / "ubus" / "dump.json"
    before = dump.read_text()
    data = json.loads(before)
    for entry in data["interface"]:
        if entry["interface"] in ("wan1", "wan1_6"):
            entry |= {"device": value, "l3_device": value, "ipv4-address": value, "route": value, "metric": value}
    try:
        dump.write_text(json.dumps(data))
        done = router.connbal("apply")
        assert "Traceback" not in done.stderr
        router.nothing_strange_was_written()
        assert lab.tcp("pc", port=443, count=4).names == Counter({"wan": 4})
    finally:
        dump.write_text(before)
    router.connbal("apply")
    the_good_ones_work(router)


# --- pure: many more --------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["m1", "m2", "m6", "p", "q", "r", "r2", "a" * 60, "x-y", "'"])
TEXT = st.one_of(st.sampled_from(list(HOSTILE.values())), NAMES, st.text(max_size=20), st.integers(-5, 70_000).map(str))
#: Values that an option takes, so that most sections survive and reach the kernel.
SOUND_VALUES: dict[str, list[Value]] = {
    "src_ip": ["192.168.1.7", "!10.0.0.0/8", ("10.0.0.1-10.0.0.9", "2001:db8::/32"), "fd01::7", "0.0.0.0/0"],
    "dest_ip": ["203.0.113.0/24", "::/0", ("!192.0.2.1", "!198.51.100.0/24"), "2001:db8::1-2001:db8::f"],
    "src_port": ["1024:2048", "1-5"], "dest_port": ["80", "80,443", ",".join(map(str, range(100, 140)))],
    "proto": ["tcp", "udp", "tcpudp", "icmp", "47", "icmpv6", "all"], "family": ["ipv4", "ipv6", "any"],
    "src_iface": ["lan", "wan", ("lan", "wan6")],
    "src_mac": ["aa:bb:cc:dd:ee:ff", ("02:00:00:00:00:01", "AA-BB-CC-DD-EE-FF")],
    "ipset": ["set4", "set6", "ports", "new_set"], "ipset_src": ["set4", "newer_set"],
    "sticky": ["1"], "logging": ["1"], "timeout": ["60"], "enabled": ["1"],
    "use_policy": ["to_wan", "both", "blackhole"],
    "interface": ["wan", "wan1", "wan6"], "weight": ["1", "3", "1000"], "metric": ["1", "2", "256"],
    "use_member": [("m_wan", "m_wan1"), ("m_wan", "m_wan1", "m_wan6", "m1", "m2")],
    "last_resort": ["blackhole", "default"], "affinity": ["pair", "source", "connection"],
    "weight_mode": ["inverse", "proportional"],
    "mmx_mask": ["0x3F00", "0xFF0000", "0x111"], "loglevel": ["debug"], "rt_table_lookup": ["220"],
}  # fmt: skip
_ALWAYS: dict[str, dict[str, Value]] = {
    "rule": {"use_policy": "both"}, "member": {"interface": "wan"}, "interface": {"enabled": "1"},
    "policy": {"use_member": ("m_wan", "m_wan1", "m_wan6")}, "globals": {"logging": "1", "affinity": "pair"},
}  # fmt: skip


@st.composite
def section(draw: st.DrawFn) -> Section:
    """Usually sound, sometimes with something else in one place."""
    kind = draw(st.sampled_from([*SECTIONS, *["rule"] * 6, "policy", "member"]))
    known = [option for option in SECTIONS[kind].options if option in SOUND_VALUES]
    options = dict(_ALWAYS[kind])
    for option in draw(st.lists(st.sampled_from(known), unique=True, max_size=5)):
        options[option] = draw(st.sampled_from(SOUND_VALUES[option]))
    if draw(st.integers(0, 3)) == 0:
        value = st.one_of(TEXT, st.lists(TEXT, min_size=1, max_size=20).map(tuple))
        options[draw(st.sampled_from(list(SECTIONS[kind].options)))] = draw(value)
    if kind == "globals":
        return Section("globals", kind, False, options)
    name = draw(st.one_of(NAMES, st.from_regex(r"[A-Za-z0-9_]{1,80}", fullmatch=True), TEXT))
    return Section(name, kind, draw(st.booleans()), options)


#: Sets of all kinds that a rule may name, and devices of all names that are taken.
FACTS_SETS = {
    name: SetFacts(name, kind, family)
    for name, kind, family in (
        ("set4", "hash:net", Family.IPV4), ("set6", "hash:net", Family.IPV6), ("ports", "hash:ip,port", Family.IPV4),
    )
}  # fmt: skip


def facts() -> Facts:
    made = machine("wan wan1 wan6:6")
    made.uplinks["wan"].device = "e#(x)?,[y]"
    made.custom = (ipaddress.ip_network("172.16.0.0/12"), ipaddress.ip_network("fd99::/64"))
    return made.facts(FACTS_SETS)


def written(made: Plan) -> tuple[list[str], list[str]]:
    """Everything that would go to iptables-restore, and to ipset."""
    chains = [lines for family, one in made.rulesets.items() for lines in rendered(one, family).values()]
    rules = [line.text for lines in chains for line in lines]
    changes = diff(made, KernelState({family: {} for family in made.rulesets}, {}, frozenset(), frozenset()), Ledger())
    rules += [line for one in changes.transactions.values() for line in one.text.splitlines()]
    sets = [create_line(spec, f"{spec.name}-") for spec in made.sets]
    sets += [f"add {spec.name}- {entry}" for spec in made.sets for entry in spec.entries or ()]
    return rules, sets


@pytest.mark.parametrize(
    "line",
    ["-A mwan3_rules -j ACCEPT", "-A INPUT -j mwan3_rules", "-F", "-A mwan3_rules -m comment --comment a b -j RETURN",
     "", "-A mwan3_rules -j RETURN -j DROP", '-A mwan3_rules -m comment --comment "a"" -j RETURN', ":INPUT DROP [0:0]",
     "-A mwan3_rules -j RETURN\n", "*filter", "-D OUTPUT -j others", "-A mwan3_rules -i a;b -j RETURN"],
)  # fmt: skip
def test_the_grammar_is_strict(line: str) -> None:
    assert not RULES.fullmatch(line)
    assert strangers(f"COMMIT\n{line}\n", RULES)


@settings(max_examples=300)
@given(st.lists(section(), max_size=10))
def test_whatever_is_decoded_renders_to_known_lines(sections: list[Section]) -> None:
    made = plan(decode(package(sections)).config, facts())
    rules, sets = written(made)
    assert len(rules) > 30
    assert [line for line in rules if not RULES.fullmatch(line)] == []
    assert [line for line in sets if not SETS.fullmatch(line)] == []


@settings(max_examples=200)
@given(st.lists(section(), max_size=6))
def test_what_the_writer_writes_the_parser_reads_or_refuses(sections: list[Section]) -> None:
    """Nothing in a section becomes another section on the way through a file."""
    text = encode(export(package(sections), header=False))
    try:
        read = parse(text, "mwan3")
    except ConfigError:
        return
    kinds = Counter(one.type for one in package(sections).sections)
    assert not Counter(one.type for one in read.sections) - kinds


@pytest.mark.parametrize("kind", HOSTILE)
def test_each_hostile_value_in_each_option_renders_to_known_lines(kind: str) -> None:
    """The same configurations as on the real kernel, in a hundredth of the time."""
    begin = time.monotonic()
    decoded = decode(package(victims(HOSTILE[kind])))
    rules, sets = written(plan(decoded.config, facts()))
    assert not [line for line in rules if not RULES.fullmatch(line)]
    assert not [line for line in sets if not SETS.fullmatch(line)]
    assert {rule.name for rule in decoded.config.rules} >= {"web", "rest"}
    assert time.monotonic() - begin < 10
