"""A hostile user of LuCI with the right to write: whatever is sent or written, it stays a text, and connbal goes on."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from connbal.rpcd import methods
from connbal.uci.package import Package, Section
from connbal.uci.schema import SECTIONS
from connbal.uci.text import export
from tests.router import hostile
from tests.router.configs import HOST, balanced
from tests.router.conftest import MakeRouter
from tests.router.router import Router
from tests.router.watch import Watch, tree
from tests.router.web import CALLS, LOGINS, SEED, login, web

pytestmark = pytest.mark.netns

#: Answers that are no document of a command: what mwan3's form has.
FORM = {"interfaces", "connected", "policies"}
CHANGED = "etc/config/mwan3"


@pytest.fixture
def machine(router: MakeRouter) -> tuple[Router, Watch]:
    """A router with two sources, the service running, and somebody watching."""
    one = router(["wan", "wan1"])
    watch = Watch(one)
    one.configure(balanced({"wan": True, "wan1": True}))
    one.path("/etc/config/rpcd").write_text(LOGINS)
    one.sh("/etc/init.d/mwan3 enable; /etc/init.d/mwan3 start")
    one.wait(lambda: one.read(f"/var/run/mwan3track/wan/TRACK_{HOST}") == "up", "wan to be probed")
    return one, watch


def pid(router: Router) -> str:
    """The daemon's process id."""
    return router.read("/var/run/connbal/daemon.pid")


def calm(router: Router, watch: Watch, before: Any, daemon: str, what: Any) -> None:
    """Nothing has got anywhere: no shell, no program, no file but the configuration; and the same daemon runs."""
    assert list(watch.complaints()) == [], what
    assert pid(router) == daemon, what
    after = tree(router)
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} <= {CHANGED}, what
    assert after[CHANGED][0] == before[CHANGED][0], "the file's mode"


def test_no_argument_of_a_call_gets_anywhere(machine: tuple[Router, Watch]) -> None:
    """Contract: no argument reaches a shell or a file outside the configuration, and one object is answered."""
    router, watch = machine
    session, _ = login(router, "writer")
    chance, daemon, before = random.Random(SEED), pid(router), tree(router)
    good, kinds = router.path("/etc/config/mwan3").read_text(), set()
    for number in range(CALLS):
        name = "mwan3" if chance.random() < 0.05 else "connbal"
        writing = name == "connbal" and chance.random() < 0.8
        method, args = hostile.call(chance, name, writing)
        what = SEED, number, method, args
        status, said = web(router, session, name, method, args)
        assert status == 0, what
        assert isinstance(said, dict), what
        assert "schema" in said or set(said) <= FORM, what
        kinds.add((method, said.get("schema")))
        if said.get("error"):
            assert not any(word in said["error"] for word in ("Traceback", "please report")), (what, said)
            assert all(char.isprintable() or char == "\n" for char in said["error"]), (what, said)
        if number % 50 == 49:
            calm(router, watch, before, daemon, what)
            router.configure(good)  # or soon there would be nothing left to change
    calm(router, watch, before, daemon, "the end")
    assert {"subprocess.Popen", "open"} <= watch.seen()
    assert {kind for method, kind in kinds if method in ("set", "add")} >= {"edit/1", "error/1"}
    router.configure(good)
    router.run(["/usr/sbin/mwan3", "restart"])
    router.wait(lambda: set(router.lab.tcp("tv", count=60).names) == {"wan", "wan1"}, "both to carry connections")


def written(chance: random.Random) -> Package:
    """A configuration as somebody could write it by LuCI's other pages, or by hand: values of all sorts."""
    sections = []
    for number in range(chance.randint(1, 12)):
        kind = chance.choice([*SECTIONS, "nothing"])
        options: dict[str, Any] = {}
        for option, spec in SECTIONS[kind].options.items() if kind in SECTIONS else ():
            if chance.random() < 0.5:
                texts = [_value(chance) for _ in range(chance.randint(1, 3))]
                options[option] = tuple(texts) if spec.is_list or chance.random() < 0.1 else texts[0]
        name = chance.choice((f"s{number}", "wan", "wan1", "wan_m", "balanced", "a" * 60, f"x{number}_" * 9))
        if name not in {one.name for one in sections}:
            sections.append(Section(name, kind, False, options))
    return Package("mwan3", sections)


def _value(chance: random.Random) -> str:
    """A value; UCI's files can have all but NUL and what is no UTF-8 at all."""
    text = str(chance.choice((*hostile.TEXTS, "1", "0", "wan", "wan_m", "balanced", "80", "tcp", HOST)))
    return (
        text.replace("\0", "")
        .encode("utf-8", "replace" if "\ud800" in text else "surrogateescape")
        .decode("utf-8", "surrogateescape")
    )


def test_no_value_of_the_configuration_gets_anywhere(machine: tuple[Router, Watch]) -> None:
    """Contract: no UCI value reaches a shell: what is good still works, and every command and method answers."""
    router, watch = machine
    session, _ = login(router, "writer")
    chance, daemon, before = random.Random(SEED), pid(router), tree(router)
    good = router.path("/etc/config/mwan3").read_bytes()
    commands = ("mwan3 status", "mwan3 internal ipv4", "connbal status --json", "connbal check --all", "connbal plan",
                "connbal rule list", "connbal explain --local --dst 203.0.113.7", "mwan3 use wan /bin/true",
                "connbal doctor", "mwan3 ifdown wan; mwan3 ifup wan")  # fmt: skip
    for number in range(max(CALLS // 20, 1)):
        what = SEED, number
        text = export(written(chance), header=False).encode("utf-8", "surrogateescape")
        router.path("/etc/config/mwan3").write_bytes(good + text if chance.random() < 0.5 else text)
        router.run(["/usr/sbin/mwan3", "restart"])
        for line in chance.sample(commands, 2):
            done = router.run(["/bin/busybox", "sh", "-c", line], check=False)
            assert "Traceback" not in done.stderr, (what, line, done.stderr)
            assert all(char.isprintable() or char in "\n\t" for char in done.stdout), (what, line)
        for name, table in methods.OBJECTS.items():
            method, args = chance.choice([one for one in table if not one.writes and one.name != "diagnose"]), {}
            if method.arguments and name == "connbal":
                args = hostile.arguments(chance, method)
            status, said = web(router, session, name, method.name, args)
            assert status == 0, (what, method.name, args)
            assert isinstance(said, dict), (what, method.name, args)
        calm(router, watch, before, daemon, what)
    router.path("/etc/config/mwan3").write_bytes(good)
    router.run(["/usr/sbin/mwan3", "restart"])
    router.wait(lambda: set(router.lab.tcp("tv", count=60).names) == {"wan", "wan1"}, "both to carry connections")
    assert json.loads(router.run(["connbal", "status", "--json"]).stdout)["applied"] is True
