"""``connbal ipset``: what is written and printed, and that a failure leaves the file and the sets as they were.

The sets are a fake, for faults; tests/netns/sites has the kernel's, and dnsmasq.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connbal.cli import main
from connbal.errors import KernelError
from connbal.kernel import dnsmasq
from connbal.model.config import Family
from connbal.plan.state import SetState
from connbal.uci import files
from tests.fakes.kernel import Calls, FakeSets, Trouble

ROOT = Path(__file__).resolve().parents[3]
DHCP = """
config dnsmasq
	option domainneeded '1'

config ipset 'tube'
	list name 'tube'
	list name 'tube6'
	list domain 'youtube.com'
	option connbal_family 'any'
	option connbal_timeout '60'
	option own 'kept'

config host
	option name 'tv'
"""
MWAN3 = """
config interface 'wan'
	option enabled '1'

config member 'm'
	option interface 'wan'

config policy 'p'
	list use_member 'm'
"""


class Sets(FakeSets):
    """The fake, as commands open the real one."""

    def close(self) -> None:
        pass

    def entries(self, name: str) -> frozenset[str]:
        return self.states[name].entries or frozenset()

    def remaining(self, name: str) -> dict[str, int | None]:
        state = self.states[name]
        return dict.fromkeys(state.entries or (), state.timeout)


@pytest.fixture
def sets(monkeypatch: pytest.MonkeyPatch) -> Sets:
    from connbal.kernel import ipset

    one = Sets(Calls())
    for name, family in (("tube", Family.IPV4), ("tube6", Family.IPV6)):
        entries = frozenset({"203.0.113.10"} if family is Family.IPV4 else {"2001:db8::1"})
        one.states[name] = SetState(name, "hash:ip", family, entries, 60)
    monkeypatch.setattr(ipset, "SystemSets", lambda: one)
    monkeypatch.setattr(dnsmasq, "reads_uci", lambda: True)
    monkeypatch.setattr(dnsmasq, "restart", lambda: one._calls.enter("restart", True)())
    return one


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "dhcp").write_text(DHCP)
    (tmp_path / "mwan3").write_text(MWAN3)
    return tmp_path


Printed = tuple[int, str, str]


@pytest.fixture
def run(here: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: str) -> Printed:
        with pytest.raises(SystemExit) as ended:
            main.main(["--config-dir", str(here), "--run-dir", str(here / "run"), "ipset", *arguments])
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return call


# --- what is printed --------------------------------------------------------------------------------------------------


def test_list(run: Any, here: Path) -> None:
    (here / "mwan3").write_text(f"{MWAN3}config rule 'r'\n\toption ipset 'tube'\n\toption use_policy 'p'\n")
    code, out, _ = run("list")
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["NAME", "FAMILY", "TIMEOUT", "RULES", "DOMAINS"], ["tube", "any", "1m", "r", "youtube.com"],
    ]  # fmt: skip
    assert run("list", "--print-conf") == (0, "ipset=/youtube.com/tube,tube6\n", "")
    (here / "dhcp").unlink()
    assert run("list")[1].startswith("no ipsets")


def test_show(run: Any, sets: Sets) -> None:
    sets.states["tube6"] = replace(sets.states["tube6"], timeout=None)
    code, out, err = run("show", "tube6")
    assert code == 0
    assert "203.0.113.10  1m00s" in out
    assert "2001:db8::1  -" in out
    assert "[set-timeout]" in err
    del sets.states["tube6"]
    assert "[missing-set]" in run("show", "tube")[2]
    sets.states["tube6"] = replace(sets.states["tube"], name="tube6")
    assert "[set-family]" in run("show", "tube")[2]


def test_a_build_that_fills_no_ipsets(run: Any, sets: Sets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dnsmasq, "build", lambda: dnsmasq.Build(ipset=False, nftset=True))
    for arguments in (("list",), ("show", "tube"), ("add", "new", "--domain", "a.b")):
        code, _, err = run(*arguments)
        assert code == 0
        assert "nftset" in err
        assert "PACKAGE_dnsmasq_full_ipset" in err
    monkeypatch.setattr(dnsmasq, "build", lambda: None)
    assert "[no-dnsmasq]" in run("list")[2]


def test_nothing_of_a_hostile_file_reaches_the_terminal(run: Any, here: Path, sets: Sets) -> None:
    evil = "\x1b[31m\u202e"
    text = f"config ipset '{'x'}'\n\tlist name 'a{evil}'\n\tlist name 'ok'\n\tlist domain 'b{evil}.org'\n"
    (here / "dhcp").write_text(f"{text}\toption connbal_timeout '{evil}'\n")
    for arguments in (("list",), ("show", "ok"), ("list", "--print-conf"), ("delete", "x")):
        _, out, err = run(*arguments)
        assert all(character.isprintable() or character == "\n" for character in out + err)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", "tub"), "did you mean tube?"),
        (("add", "tube", "--domain", "x.org"), "ipset set tube"),
        (("add", "new"), "--domain"),
        (("add", "new", "--domain", "youtube.com"), "remove it from tube"),
        (("add", "mwan3_new", "--domain", "x.org"), "mwan3_"),
        (("add", "new", "--domain", "https://x.org/y"), "'x.org'"),
        (("add", "new", "--domain", "x.org", "--timeout", "soon"), "no timeout"),
        (("add", "new", "--domain", "x.org", "--family", "ipv5"), "ipv5"),
        (("set", "tube"), "nothing to change"),
        (("set", "tube", "--remove", "domain=youtub.com"), "did you mean youtube.com?"),
        (("set", "tube", "--remove", "youtube.com"), "ipset delete tube"),
        (("set", "tube", "--add", "name=x"), "domain=NAME"),
        (("delete", "nosuch"), "no ipset 'nosuch'"),
    ],
)
def test_what_makes_no_sense(run: Any, here: Path, sets: Sets, arguments: tuple[str, ...], words: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert (here / "dhcp").read_text() == DHCP
    assert set(sets.states) == {"tube", "tube6"}


# --- what is done -----------------------------------------------------------------------------------------------------

ADD = ("add", "new", "--domain", "x.org", "--family", "any", "--timeout", "1h")
SET = ("set", "tube", "--add", "domain=x.org", "--timeout", "2h", "--flush")
DELETE = ("delete", "tube")


def test_add(run: Any, here: Path, sets: Sets) -> None:
    code, out, _ = run(*ADD)
    assert code == 0
    assert out.splitlines() == [
        "dhcp.new: x.org -> new (ipv4) and new6 (ipv6)", "set new: made (hash:ip, ipv4, timeout 1h)",
        "set new6: made (hash:ip, ipv6, timeout 1h)", "dnsmasq: restarted",
        "no rule names new yet: give one option ipset 'new'",
    ]  # fmt: skip
    assert {name: (state.family, state.timeout) for name, state in sets.states.items() if "new" in name} == {
        "new": (Family.IPV4, 3600), "new6": (Family.IPV6, 3600),
    }  # fmt: skip
    written = (here / "dhcp").read_text()
    assert "option own 'kept'" in written
    assert written.index("'tube'") < written.index("config host") < written.index("'new'")


def test_set_keeps_what_was_gathered(run: Any, here: Path, sets: Sets) -> None:
    assert run("set", "tube", "--add", "x.org", "--timeout", "2h")[0] == 0
    assert (sets.states["tube"].timeout, sets.states["tube"].entries) == (7200, frozenset({"203.0.113.10"}))
    assert run("set", "tube", "--flush")[0] == 0
    assert not sets.states["tube"].entries
    assert "list domain 'x.org'" in (here / "dhcp").read_text()


def test_delete_leaves_sets_of_others(run: Any, here: Path, sets: Sets) -> None:
    (here / "firewall").write_text("config ipset\n\toption name 'tube6'\n\toption family 'ipv6'\n\toption match 'ip'\n")
    assert run(*DELETE)[0] == 0
    assert set(sets.states) == {"tube6"}
    assert "tube" not in (here / "dhcp").read_text()


def test_a_set_of_another_kind_is_in_the_way(run: Any, here: Path, sets: Sets) -> None:
    for kind, family in (("hash:ip", Family.IPV6), ("hash:ip,port", Family.IPV4), ("list:set", None)):
        sets.states["new"] = SetState("new", kind, family, frozenset())
        code, _, err = run(*ADD)
        assert code == 1
        assert "choose another name" in err
        assert set(sets.states) == {"tube", "tube6", "new"}
        assert (here / "dhcp").read_text() == DHCP


@pytest.mark.parametrize("command", [ADD, SET, DELETE])
def test_the_file_only(run: Any, here: Path, sets: Sets, command: tuple[str, ...]) -> None:
    before = dict(sets.states)
    code, _, _ = run(*command, "--dry-run")
    assert code == 0
    assert (here / "dhcp").read_text() == DHCP
    code, out, _ = run(*command, "--no-apply", "--json")
    assert code == 0
    assert json.loads(out)["done"] == []
    assert (here / "dhcp").read_text() != DHCP
    assert sets.states == before
    assert not sets._calls.names


def test_edits_at_once_lose_none(here: Path) -> None:
    argv = [sys.executable, "-m", "connbal.cli.main", "--config-dir", str(here), "--run-dir", str(here / "run")]
    running = [
        subprocess.Popen([*argv, "ipset", "add", f"s{number}", "--domain", f"s{number}.org", "--no-apply"],
                         cwd=ROOT, stdout=subprocess.DEVNULL)
        for number in range(8)
    ]  # fmt: skip
    assert [process.wait(60) for process in running] == [0] * 8
    written = (here / "dhcp").read_text()
    assert all(f"list domain 's{number}.org'" in written for number in range(8))
    assert "option own 'kept'" in written


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [Trouble.REFUSED, Trouble.BUSY, Trouble.HANGS])
@pytest.mark.parametrize("command", [ADD, SET, DELETE])
def test_a_refusal_at_any_call_leaves_everything_as_it_was(
    run: Any, here: Path, sets: Sets, command: tuple[str, ...], trouble: Trouble
) -> None:
    before = dict(sets.states)
    number = 0
    while True:
        sets._calls.forget()
        sets._calls.trouble[number] = trouble
        code, _, err = run(*command)
        if sets._calls.names[number : number + 1] in ([], ["restart"]):
            break
        assert code == 1, sets._calls.names
        assert any(word in err for word in ("test", "lock", "no answer in time"))
        assert sets.states == before, sets._calls.names
        assert (here / "dhcp").read_text() == DHCP
        number += 1
    assert number >= 3


@pytest.mark.parametrize("command", [ADD, SET, DELETE])
def test_a_file_that_cannot_be_written_leaves_the_sets_as_they_were(
    run: Any, here: Path, sets: Sets, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dict(sets.states)

    def full(self: object, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.LockedFile, "replace", full)
    code, _, err = run(*command)
    assert code == 1
    assert "No space left" in err
    assert sets.states == before
    assert (here / "dhcp").read_text() == DHCP
    assert "restart" not in sets._calls.names


def test_a_dnsmasq_that_does_not_restart(run: Any, here: Path, sets: Sets, monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs() -> None:
        raise KernelError("dnsmasq restart", None, "no answer within 60 s")

    monkeypatch.setattr(dnsmasq, "restart", hangs)
    code, out, err = run(*ADD)
    assert code == 1
    assert "dnsmasq-restart" in err
    assert "dhcp.new" in out
    assert "new" in sets.states
    assert "'new'" in (here / "dhcp").read_text()


# --- what is loaded ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["list"], [*ADD, "--no-apply"], ["list", "--json"]])
def test_nothing_slow_is_loaded(here: Path, arguments: list[str]) -> None:
    argv = ["--config-dir", str(here), "--run-dir", str(here), "ipset", *arguments]
    program = (
        "import sys; from connbal.cli.main import main\n"
        f"try: main({argv!r})\n"
        "except SystemExit: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert "connbal.cli.ipset" in loaded
    assert not loaded & {"pyroute2", "icmplib", "asyncio", "encodings.idna"}
