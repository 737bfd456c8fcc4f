"""What iptables or the kernel refuses: the old rules stay whole, the section is named, the rest goes in."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.netns.rivals.router import Router, section, without_counters

pytestmark = pytest.mark.netns

#: A port that the wrapper below has iptables-restore refuse; the last rule of a refused section holds it.
REFUSED = "6666"

#: Stands before the real program: writes down what the kernel has each time it is asked to change it, then obeys.
#: `$n` is the number of the first line with the port, `$last` that of COMMIT.
WRAPPER = """#!/bin/sh
case " $* " in *" --version "*|*" -V "*) exec '@REAL@' "$@";; esac
text=$(mktemp '@DIR@/text.XXXXXX')
cat >"$text"
'@SAVE@' -t mangle >"$(mktemp '@DIR@/before.XXXXXX')"
@PREPARE@
n=$(grep -n -e '@PATTERN@' "$text" | head -n 1 | cut -d: -f1)
last=$(grep -c '' "$text")
if [ -n "$n" ]; then
@REFUSE@
fi
exec '@REAL@' "$@" <"$text"
"""

#: How the programs put it, by build and by who noticed: message and exit status.
FORMS = {
    "nft, from the kernel": ("line $n: RULE_APPEND failed (Invalid argument): rule in chain mwan3_rules", 4),
    "nft, from the program": (
        "iptables-restore v1.8.9 (nf_tables): invalid port/service\\nError occurred at line: $n\\nTry so and so.", 2
    ),
    "nft, the jump to the chain is blamed": (
        "line $((last - 1)): RULE_APPEND failed (No such file or directory): rule in chain PREROUTING", 4
    ),
    "legacy, with the line": ("iptables-restore: line $n failed", 1),
    "legacy, the line of COMMIT": ("iptables-restore: line $last failed", 1),
    "no line at all": ("iptables-restore: failed", 1),
    "silence": ("", 1),
}  # fmt: skip


@pytest.fixture
def router(lab_available: None) -> Iterator[Router]:
    with Lab(("wan", "wan1")) as lab:
        yield Router(lab)


@pytest.fixture(params=["nft", "legacy"])
def either(request: pytest.FixtureRequest, lab_available: None) -> Iterator[Router]:
    """With each build of iptables."""
    if shutil.which(f"iptables-{request.param}-restore") is None:
        pytest.skip(f"iptables-{request.param} is not installed")
    with Lab(("wan", "wan1"), xtables=request.param) as lab:
        yield Router(lab)


class Wrapper:
    """An iptables-restore of IPv4 that refuses some lines, or does something on the way."""

    def __init__(self, lab: Lab, refuse: str = "", pattern: str = f"dports {REFUSED}", prepare: str = ":") -> None:
        self._directory = lab.tmp / "wrapper"
        self._directory.mkdir()
        link = lab.bin_dir / "iptables-restore"
        # The multi-call program goes by the name it is called by.
        real = self._directory / "iptables-restore"
        real.symlink_to(link.resolve())
        save = shutil.which(f"iptables-{lab.spec.xtables}-save")
        assert save is not None
        script = WRAPPER
        for name, value in (("REAL", str(real)), ("SAVE", save), ("DIR", str(self._directory)), ("PATTERN", pattern),
                            ("PREPARE", prepare), ("REFUSE", refuse or ":")):  # fmt: skip
            script = script.replace(f"@{name}@", value)
        link.unlink()
        link.write_text(script)
        link.chmod(0o755)

    def _files(self, kind: str) -> list[Path]:
        return sorted(self._directory.glob(f"{kind}.*"), key=lambda path: path.stat().st_mtime_ns)

    @property
    def texts(self) -> list[str]:
        """What it was given to restore, in order."""
        return [path.read_text() for path in self._files("text")]

    @property
    def states(self) -> list[str]:
        """The mangle table before each."""
        return [without_counters(path.read_text()) for path in self._files("before")]


def refusing(message: str, status: int) -> str:
    return f'printf \'%b\\n\' "{message}" >&2\nexit {status}'


def base(router: Router) -> str:
    return "\n".join([
        router.sources(),
        section("rule", "web", proto="tcp", dest_port="80", use_policy="only_wan1"),
        section("rule", "rest", use_policy="only_wan"),
    ])  # fmt: skip


def with_refused(router: Router) -> str:
    """New rules before and behind those that were there; two sections that get refused among them."""
    return "\n".join([
        router.sources(),
        section("rule", "early", proto="tcp", dest_port="853", use_policy="only_wan1"),
        section("rule", "bad_one", proto="tcp", dest_port=REFUSED, src_ip="192.168.1.20", use_policy="only_wan1"),
        section("rule", "web", proto="tcp", dest_port="80", use_policy="only_wan1"),
        section("rule", "bad_two", proto="udp", dest_port=REFUSED, use_policy="only_wan1"),
        section("rule", "late", proto="tcp", dest_port="5000", use_policy="only_wan1"),
        section("rule", "rest", use_policy="only_wan"),
    ])  # fmt: skip


def goes(router: Router, port: int, source: str, family: int = 4) -> None:
    assert router.lab.tcp("pc", port=port, count=5, family=family).names == Counter({source: 5})


def without_probe(state: str) -> str:
    """The probing chain, which no packet meets, is the only thing that may be there besides."""
    return "\n".join(line for line in state.splitlines() if "mwan3_probe" not in line)


@pytest.mark.parametrize("form", FORMS)
def test_whatever_words_the_refusal_has(router: Router, form: str) -> None:
    router.apply(base(router))
    before = without_counters(router.node.run(["iptables-save", "-t", "mangle"]).stdout)
    wrapper = Wrapper(router.lab, refusing(*FORMS[form]))
    done = router.apply(with_refused(router))
    assert done.returncode == 0
    for name in ("bad_one", "bad_two"):
        assert f"mwan3.{name}: the kernel refused rule {name}, which is left out" in done.stderr
    for name in ("early", "web", "late", "rest"):
        assert f"mwan3.{name}:" not in done.stderr
    assert REFUSED in done.stderr  # the offending line is shown
    # Until the one that was taken, nothing had changed.
    assert {without_probe(state) for state in wrapper.states} == {before}
    assert REFUSED not in wrapper.texts[-1]
    for port, source in ((853, "wan1"), (80, "wan1"), (5000, "wan1"), (443, "wan")):
        goes(router, port, source)
    # A section is in or out, in both families alike.
    assert not any(REFUSED in rule for rule in router.mangle(6)["mwan3_rules"])
    again = router.connbal("apply", "--json")
    assert [one["place"] for one in json.loads(again.stdout)["findings"] if one["code"] == "refused"]


def test_a_refusal_that_is_no_section_s_fault_changes_nothing(router: Router) -> None:
    router.apply(base(router))
    before = without_counters(router.node.run(["iptables-save", "-t", "mangle"]).stdout)
    message = "iptables-restore v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied"
    wrapper = Wrapper(router.lab, refusing(message, 4), pattern="COMMIT")
    router.configure(with_refused(router))
    done = router.connbal("apply", check=False)
    assert done.returncode == 1
    assert "iptables-restore: " in done.stderr
    assert "Permission denied" in done.stderr
    assert "Traceback" not in done.stderr
    assert set(wrapper.states) == {before}
    goes(router, 80, "wan1")
    goes(router, 5000, "wan")


def test_a_held_lock_is_nobody_s_fault(router: Router) -> None:
    router.apply(base(router))
    message = "Another app is currently holding the xtables lock. Perhaps you want to use the -w option?"
    wrapper = Wrapper(router.lab, refusing(message, 4), pattern="COMMIT")
    router.configure(with_refused(router))
    done = router.connbal("apply", check=False)
    assert done.returncode == 1
    assert "xtables lock" in done.stderr
    assert "left out" not in done.stderr
    assert len(wrapper.texts) == 1


def test_a_set_that_goes_between_planning_and_restoring(either: Router) -> None:
    either.node.run(["ipset", "create", "fleeting", "hash:ip"])
    named = section("rule", "named", ipset="fleeting", family="ipv4", use_policy="only_wan1")
    wrapper = Wrapper(either.lab, prepare="ipset destroy fleeting 2>/dev/null")
    done = either.apply(named, base(either))
    assert done.returncode == 0
    assert "mwan3.named: the kernel refused rule named, which is left out" in done.stderr
    assert "fleeting" in done.stderr
    assert "mwan3_hook" not in wrapper.states[0]
    goes(either, 80, "wan1")
    goes(either, 443, "wan")


@pytest.mark.parametrize("kind", ["hash:net family inet6", "hash:ip,port", "list:set"])
def test_a_set_that_becomes_another(either: Router, kind: str) -> None:
    """Replaced by one of another family or dimension while connbal was planning: the rest goes in all the same."""
    either.node.run(["ipset", "create", "changing", "hash:ip"])
    named = section("rule", "named", ipset="changing", family="ipv4", use_policy="only_wan1")
    Wrapper(either.lab, prepare=f"ipset destroy changing 2>/dev/null && ipset create changing {kind}")
    assert either.apply(named, base(either)).returncode == 0
    goes(either, 80, "wan1")
    goes(either, 443, "wan")


@pytest.mark.parametrize(
    "kind", ["hash:ip,port,ip", "hash:net,iface", "bitmap:port range 0-65535", "hash:ip timeout 9"]
)
def test_sets_of_any_type_cost_nobody_else(either: Router, kind: str) -> None:
    """Sets that iptables can match with some directions only: the rule works or is left out, the others work."""
    either.node.run(["ipset", "create", "odd", *kind.split()])
    named = section("rule", "named", ipset="odd", family="ipv4", use_policy="blackhole")
    assert either.apply(named, base(either)).returncode == 0
    goes(either, 80, "wan1")
    goes(either, 443, "wan")


def test_a_gateway_that_the_kernel_would_refuse(router: Router) -> None:
    """Here one that can be nobody's address. tests/netns/daemon/test_refused.py has routes that the kernel refuses."""
    lab = router.lab
    network = (lab.config_dir / "network").read_text()
    (lab.config_dir / "network").write_text(network.replace("'10.2.0.1'", "'127.0.0.5'"))
    done = router.apply(base(router))
    assert done.returncode == 0
    assert "mwan3.wan1: interface wan1: the gateway 127.0.0.5" in done.stderr
    goes(router, 443, "wan")
    goes(router, 80, "wan1", family=6)
    (lab.config_dir / "network").write_text(network)
    router.apply()
    goes(router, 80, "wan1")
