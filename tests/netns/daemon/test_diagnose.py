"""``connbal diagnose`` in a router whose sources have real faults: the right step fails, and the sentence names it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests import shapes
from tests.lab import Lab
from tests.netns.daemon.conftest import MakeBench, MakeService
from tests.netns.daemon.service import tracked
from tests.netns.main_job.bench import Bench

pytestmark = pytest.mark.netns

Make = Callable[..., "Router"]


class Router:
    """A lab of two sources with connbal in its router."""

    def __init__(self, lab: Lab, bench: Bench) -> None:
        self.lab, self.bench = lab, bench

    def apply(self, text: str | None = None) -> None:
        self.bench.configure(text or tracked(self.lab, timeout="1"))
        self.bench.connbal("apply")

    def diagnose(self, name: str = "wan") -> dict[str, Any]:
        """What is said of an interface. The exit code says whether something failed."""
        done = self.bench.connbal("diagnose", name, "--json", check=False)
        document = json.loads(done.stdout)
        assert document["schema"] == "diagnose/1"
        shapes.check(document)
        (found,) = document["interfaces"]
        assert done.code == (0 if found["ok"] else 1)
        assert done.end - done.begin < 13
        return dict(found)

    def run(self, *argv: str) -> None:
        self.lab.router.run(list(argv))


@pytest.fixture
def router(lab: Callable[..., Lab], bench: MakeBench) -> Make:
    def make(**options: Any) -> Router:
        built = lab(["wan", "wan1"], **options)
        return Router(built, bench(built))

    return make


def failed(found: dict[str, Any]) -> list[str]:
    return [step["step"] for step in found["steps"] if step["result"] == "fail"]


def result(found: dict[str, Any], name: str) -> str:
    return str(next(step["result"] for step in found["steps"] if step["step"] == name))


FAMILIES = pytest.mark.parametrize("name", ["wan", "wan6"])


@FAMILIES
def test_nothing_is_wrong(router: Make, name: str) -> None:
    one = router()
    one.apply()
    found = one.diagnose(name)
    assert found["ok"], found
    assert found["wrong"] is None
    assert found["device"] == "e-wan"
    assert {step["step"]: step["result"] for step in found["steps"] if step["result"] != "ok"} == {
        "DNS": "skipped", "daemon": "skipped",
    }  # fmt: skip
    assert len([step for step in found["steps"] if step["step"].startswith("host ")]) == 3


@FAMILIES
@pytest.mark.parametrize("xtables", ["nft", "legacy"])
def test_cable_out(router: Make, name: str, xtables: str) -> None:
    one = router(xtables=xtables)
    one.apply()
    one.lab.carrier("wan", False)
    found = one.diagnose(name)
    assert failed(found)[0] == "link"
    assert found["wrong"] == "no carrier on e-wan"
    assert result(found, "hosts") == result(found, "address") == "skipped"


@pytest.mark.parametrize(("name", "family"), [("wan", 4), ("wan6", 6)])
def test_address_removed(router: Make, name: str, family: int) -> None:
    one = router()
    one.apply()
    one.lab.remove_address("wan", family)
    found = one.diagnose(name)
    assert failed(found)[0] == "address"
    assert found["wrong"] == f"no {'IPv4' if family == 4 else 'IPv6'} address on e-wan"


@FAMILIES
def test_silent_cut_behind_the_gateway(router: Make, name: str) -> None:
    one = router()
    one.apply()
    one.lab.cut("wan")
    found = one.diagnose(name)
    assert failed(found)[0] == "hosts"
    assert len(failed(found)) == 4
    assert found["wrong"].startswith("the gateway answers, what is behind it does not: none of 3 hosts answers ping")


def test_the_gateway_is_gone(router: Make) -> None:
    one = router()
    one.apply()
    one.lab.internet("wan").run(["ip", "address", "flush", "dev", "router"])
    found = one.diagnose("wan")
    assert failed(found)[0] == "neighbour"
    assert found["wrong"].startswith("gateway 10.1.0.1 does not answer on e-wan")


def test_a_host_that_never_answers(router: Make) -> None:
    one = router()
    one.apply(tracked(one.lab, timeout="1").replace("203.0.113.2", "192.0.2.1"))
    found = one.diagnose("wan")
    assert failed(found) == ["host 192.0.2.1"]
    assert "track host 192.0.2.1 does not answer" in found["wrong"]
    assert found["remedy"].endswith("connbal interface set wan --remove track_ip=192.0.2.1")
    assert result(found, "hosts") == "ok"


def with_names(one: Router) -> str:
    """Hosts by name, and a DNS server of the source's own."""
    network = one.lab.config_dir / "network"
    text = network.read_text()
    for source in one.lab.spec.links.values():
        device = f"\toption device '{source.device}'\n"
        text = text.replace(device, f"{device}\tlist dns '203.0.113.53'\n")
    network.write_text(text)
    return tracked(one.lab, timeout="1").replace("203.0.113.1'", "www.example.org'")


def test_dns_answers(router: Make) -> None:
    one = router()
    one.apply(with_names(one))
    found = one.diagnose("wan")
    assert found["ok"], found
    assert result(found, "DNS") == "ok"


@pytest.mark.parametrize("only_names", [False, True])
def test_dns_dead(router: Make, only_names: bool) -> None:
    one = router()
    text = with_names(one)
    if only_names:
        text = text.replace("\tlist track_ip '203.0.113.2'\n", "").replace("\tlist track_ip '198.51.100.1'\n", "")
    one.apply(text)
    one.lab.internet("wan").run(["iptables", "-A", "INPUT", "-p", "udp", "--dport", "53", "-j", "DROP"])
    found = one.diagnose("wan")
    assert failed(found)[0] == "DNS"
    assert found["wrong"] == "no DNS server (203.0.113.53) answers through it: timeout"


@pytest.mark.parametrize(
    ("family", "name", "priority"), [("-4", "wan", 2001), ("-4", "wan", 1001), ("-6", "wan6", 3002)]
)
def test_rule_deleted_by_hand(router: Make, family: str, name: str, priority: int) -> None:
    one = router()
    one.apply()
    one.run("ip", family, "rule", "delete", "priority", str(priority))
    found = one.diagnose(name)
    assert failed(found) == ["ip rules"]
    assert found["wrong"].startswith(f"ip rule {priority} ")
    assert result(found, "hosts") == "skipped"
    one.bench.connbal("apply")
    assert one.diagnose(name)["ok"]


@pytest.mark.parametrize(("family", "name", "table"), [("-4", "wan", "1"), ("-6", "wan6", "2")])
def test_table_flushed(router: Make, family: str, name: str, table: str) -> None:
    one = router()
    one.apply()
    one.run("ip", family, "route", "flush", "table", table)
    found = one.diagnose(name)
    assert failed(found) == ["table"]
    assert found["wrong"].startswith(f"routing table {table} lacks its default route: default via ")


@pytest.mark.parametrize(("program", "name"), [("iptables", "wan"), ("ip6tables", "wan6")])
def test_chain_flushed(router: Make, program: str, name: str) -> None:
    one = router()
    one.apply()
    one.run(program, "-t", "mangle", "-F", f"mwan3_iface_in_{name}")
    found = one.diagnose(name)
    assert failed(found) == ["chain"]
    assert found["wrong"].startswith(f"chain mwan3_iface_in_{name} has 0 lines instead of ")
    one.bench.connbal("apply")
    one.run(program, "-t", "mangle", "-F", "PREROUTING")
    assert one.diagnose(name)["wrong"] == "chain PREROUTING does not lead to mwan3_hook"


def test_something_else_of_the_ruleset_is_gone(router: Make) -> None:
    one = router()
    one.apply()
    one.run("iptables", "-t", "mangle", "-F", "mwan3_rules")
    found = one.diagnose("wan")
    assert failed(found) == ["kernel"]
    assert found["remedy"].startswith("connbal plan")


def test_not_applied(router: Make) -> None:
    one = router()
    one.bench.configure(tracked(one.lab, timeout="1"))
    found = one.diagnose("wan")
    assert failed(found) == ["applied"]
    assert found["wrong"].startswith("the configuration is not applied")
    assert result(found, "hosts") == "ok"


def test_disabled(router: Make) -> None:
    one = router()
    one.apply(tracked(one.lab, timeout="1").replace("enabled '1'", "enabled '0'", 1))
    found = one.diagnose("wan")
    assert failed(found) == ["section"]
    assert found["wrong"] == "it is disabled: option enabled is not '1'"
    assert {step["result"] for step in found["steps"][1:]} == {"skipped"}
    names = [line.split()[0] for line in one.bench.connbal("diagnose").stdout.splitlines()]
    assert "wan1" in names
    assert "wan" not in names


def test_forced_down(router: Make) -> None:
    one = router()
    one.apply()
    one.bench.connbal("interface", "force", "wan", "down")
    found = one.diagnose("wan")
    assert failed(found) == ["forced"]
    assert found["remedy"] == "connbal interface force wan auto"


def test_no_such_network(router: Make) -> None:
    one = router()
    one.apply(tracked(one.lab, timeout="1").replace("interface 'wan'", "interface 'dsl'"))
    found = one.diagnose("dsl")
    assert failed(found)[0] == "network"
    assert "dsl" in found["wrong"]


def test_all_of_them_a_line_each_and_at_once(router: Make) -> None:
    one = router()
    one.apply()
    one.lab.cut("wan")
    one.lab.cut("wan1", families=[6])
    done = one.bench.connbal("diagnose", check=False)
    assert done.code == 1
    assert done.end - done.begin < 13
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert " FAIL " in lines["wan"]
    assert " FAIL " in lines["wan6"]
    assert " ok " in lines["wan1"]
    assert " FAIL " in lines["wan1_6"]


def test_for_people(router: Make) -> None:
    one = router()
    one.apply()
    one.lab.carrier("wan", False)
    done = one.bench.connbal("diagnose", "wan", check=False)
    assert done.code == 1
    assert done.stderr == ""
    *_, verdict, remedy = done.stdout.splitlines()
    assert verdict == "wan: no carrier on e-wan"
    assert remedy.startswith("remedy: plug the cable in")
    nonsense = one.bench.connbal("diagnose", "wna", check=False)
    assert nonsense.code == 2
    assert "did you mean wan?" in nonsense.stderr


def test_beside_the_daemon(router: Make, service: MakeService) -> None:
    one = router()
    one.bench.configure(tracked(one.lab))
    running = service(one.lab).start()
    running.wait_for("wan", "online")
    found = one.diagnose("wan")
    assert found["ok"], found
    assert result(found, "daemon") == "ok"
    one.lab.cut("wan")
    running.wait_for("wan", "offline")
    found = one.diagnose("wan")
    assert failed(found)[0] == "hosts"
    one.lab.restore("wan")


def test_check_asks_the_kernel_which_sets_there_are(router: Make) -> None:
    one = router()
    rules = "config rule 'site'\n\toption family 'ipv4'\n\toption ipset 'youtube'\n\toption use_policy 'all'\n"
    one.bench.configure(tracked(one.lab, rules=rules))

    def said() -> list[str]:
        done = one.bench.connbal("check", "--live", "--select", "missing-set,undeclared-set", "--json")
        return [finding["code"] for finding in json.loads(done.stdout)["findings"]]

    assert said() == ["missing-set"]
    one.run("ipset", "create", "youtube", "hash:ip")
    assert said() == []


def test_a_gateway_with_a_link_local_address(router: Make) -> None:
    """As routers announce themselves in IPv6."""
    one = router()
    gateway = "fe80::1234"
    one.lab.internet("wan").run(["ip", "address", "add", f"{gateway}/64", "dev", "router", "nodad"])
    network = one.lab.config_dir / "network"
    begin = "config interface 'wan6'\n"
    network.write_text(network.read_text().replace(begin, f"{begin}\toption ip6gw '{gateway}'\n"))
    one.apply()
    found = one.diagnose("wan6")
    assert found["ok"], found
    (answer,) = [step["text"] for step in found["steps"] if step["step"] == "neighbour"]
    assert answer.startswith(gateway)


def test_netifd_takes_it_down(router: Make) -> None:
    one = router()
    one.lab.ubus_stub()
    one.apply()
    assert one.diagnose("wan")["ok"]
    one.lab.ifdown("wan")
    found = one.diagnose("wan")
    assert failed(found)[0] == "link"
    assert found["remedy"] == "ifup wan"
