"""A device looks a name up, and its connections to what it is told take the rule's source."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests import shapes
from tests.netns.daemon.service import Service
from tests.netns.main_job.bench import ROOT
from tests.netns.sites.town import AAAA, NAMES, Town, eventually

pytestmark = pytest.mark.netns

YOUTUBE, VIDEO, OTHER = (NAMES[name][0] for name in ("youtube.com", "googlevideo.com", "example.com"))
YOUTUBE6, OTHER6 = NAMES["youtube.com"][1], NAMES["example.com"][1]
RULE = "config rule 'tube'\n\toption ipset 'youtube'\n\toption use_policy 'second'\n"


def test_a_site_takes_the_source_of_its_rule(town: Town) -> None:
    town.configure(RULE)
    town.bench.connbal("ipset", "add", "youtube", "--domain", "youtube.com", "--domain", "googlevideo.com",
                       "--timeout", "1h")  # fmt: skip
    assert town.kinds() == {"youtube": "hash:ip inet timeout 3600"}
    town.restart()
    town.bench.apply()  # without a word of a missing set
    assert town.goes_by("tv", YOUTUBE) == "wan"
    assert town.ask("tv", "youtube.com") == [YOUTUBE]
    assert town.ask("tv", "r3---sn-4g5e6nzl.googlevideo.com") == [VIDEO]
    assert town.ask("tv", "example.com") == [OTHER]
    assert town.ask("tv", "notyoutube.com") == []
    assert set(town.sets()["youtube"]) == {YOUTUBE, VIDEO}
    assert [town.goes_by("tv", one) for one in (YOUTUBE, VIDEO, OTHER)] == ["wan2", "wan2", "wan"]
    assert town.goes_by("pc", YOUTUBE) == "wan2"


def test_what_show_says(town: Town) -> None:
    town.configure(RULE)
    town.bench.connbal("ipset", "add", "youtube", "--domain", "youtube.com", "--timeout", "1h")
    town.restart()
    town.ask("tv", "www.youtube.com")
    document = json.loads(town.bench.connbal("ipset", "show", "youtube", "--json").stdout)
    shapes.check(document)
    assert document["rules"] == ["tube"]
    assert not document["findings"]
    [held] = document["sets"]
    [entry] = held["entries"]
    assert entry["address"] == YOUTUBE
    assert 3590 <= entry["remaining"] <= 3600
    assert YOUTUBE in town.bench.connbal("ipset", "show", "youtube").stdout
    shapes.check(json.loads(town.bench.connbal("ipset", "list", "--json").stdout))


def test_one_rule_for_both_families(town: Town) -> None:
    town.configure(RULE)
    town.bench.connbal("ipset", "add", "youtube", "--domain", "youtube.com", "--family", "any")
    assert town.kinds() == {"youtube": "hash:ip inet", "youtube6": "hash:ip inet6"}
    town.restart()
    town.bench.apply()
    assert town.ask("tv", "www.youtube.com") == [YOUTUBE]
    assert town.ask("tv", "www.youtube.com", AAAA) == [YOUTUBE6]
    assert town.ask("tv", "example.com", AAAA) == [OTHER6]
    assert town.sets() == {"youtube": {YOUTUBE: 0}, "youtube6": {YOUTUBE6: 0}}
    assert [town.goes_by("tv", one) for one in (YOUTUBE, YOUTUBE6, OTHER, OTHER6)] == ["wan2", "wan2", "wan", "wan"]


def test_explain_looks_into_the_set_of_the_family(town: Town) -> None:
    town.configure(RULE)
    town.bench.connbal("ipset", "add", "youtube", "--domain", "youtube.com", "--family", "any", "--timeout", "1h")
    town.restart()
    town.bench.apply()

    def told(source: str, to: str) -> str:
        return town.bench.connbal("explain", "--src", source, "--dst", to, "--proto", "tcp", "--dport", "443").stdout

    assert f"ipset {YOUTUBE} is not in set youtube\n" in told("192.168.1.178", YOUTUBE)
    assert f"ipset {YOUTUBE6} is not in set youtube6\n" in told("fd01::178", YOUTUBE6)
    town.ask("tv", "youtube.com")
    town.ask("tv", "youtube.com", AAAA)
    assert "It takes wan2: rule tube matches" in told("192.168.1.178", YOUTUBE)
    assert "It takes wan2_6: rule tube matches" in told("fd01::178", YOUTUBE6)


def test_a_set_of_the_other_family_alone(town: Town) -> None:
    town.configure(RULE)
    town.bench.connbal("ipset", "add", "youtube", "--domain", "youtube.com", "--family", "ipv6")
    town.restart()
    town.bench.apply()
    town.ask("tv", "youtube.com")
    town.ask("tv", "youtube.com", AAAA)
    assert town.sets() == {"youtube": {YOUTUBE6: 0}}
    assert [town.goes_by("tv", one) for one in (YOUTUBE, YOUTUBE6)] == ["wan", "wan2"]


def test_an_entry_ends_with_its_timeout_and_lives_while_it_is_asked_for(town: Town) -> None:
    town.start_upstream(ttl=1)
    town.configure(RULE)
    town.bench.connbal("ipset", "add", "youtube", "--domain", "youtube.com", "--timeout", "4")
    town.restart()
    town.bench.apply()
    end = time.monotonic() + 6.0
    while time.monotonic() < end:  # longer than the timeout
        town.ask("tv", "youtube.com")
        assert YOUTUBE in town.sets()["youtube"]
        time.sleep(0.5)
    assert town.goes_by("tv", YOUTUBE) == "wan2"
    assert eventually(lambda: not town.sets()["youtube"])
    assert town.goes_by("tv", YOUTUBE) == "wan"


def test_a_restart_of_dnsmasq_keeps_what_is_known(town: Town) -> None:
    town.configure(RULE)
    town.bench.connbal("ipset", "add", "youtube", "--domain", "youtube.com")
    town.restart()
    town.bench.apply()
    town.ask("tv", "youtube.com")
    town.restart()
    assert town.goes_by("tv", YOUTUBE) == "wan2"


def test_after_a_boot_apply_makes_the_set_as_declared(town: Town) -> None:
    town.configure(RULE)
    town.bench.connbal("ipset", "add", "youtube", "--domain", "youtube.com", "--family", "any", "--timeout", "2h",
                       "--no-apply")  # fmt: skip
    assert town.sets() == {}
    town.bench.apply()
    assert town.kinds() == {"youtube": "hash:ip inet timeout 7200", "youtube6": "hash:ip inet6 timeout 7200"}
    town.restart()
    town.ask("tv", "youtube.com")
    assert town.goes_by("tv", YOUTUBE) == "wan2"


def test_stop_leaves_what_dnsmasq_fills(town: Town) -> None:
    town.configure(RULE, "config rule 'flix'\n\toption ipset 'flix'\n\toption use_policy 'second'\n")
    town.bench.connbal("ipset", "add", "youtube", "--domain", "youtube.com")
    town.bench.connbal("ipset", "add", "flix", "--domain", "example.com", "--no-apply")
    town.bench.apply()
    assert set(town.sets()) == {"youtube", "flix"}
    town.bench.connbal("stop")
    assert set(town.sets()) == {"youtube"}  # apply made the other, and it is empty
    town.bench.apply()
    town.restart()
    town.ask("tv", "example.com")
    town.bench.connbal("stop")
    assert town.sets() == {"youtube": {}, "flix": {OTHER: 0}}


def test_a_set_that_a_rule_made_before_is_taken_over_while_it_is_in_use(town: Town) -> None:
    """connbal made it of type hash:net, without a timeout, as nobody had said what it is for."""
    town.configure(RULE)
    assert "missing-set" in town.bench.connbal("apply").stderr
    assert town.kinds() == {"youtube": "hash:net inet"}
    town.lab.router.run(["ipset", "add", "youtube", "198.51.100.0/24"])
    town.bench.connbal("ipset", "add", "youtube", "--domain", "youtube.com", "--timeout", "1h")
    assert town.kinds() == {"youtube": "hash:net inet timeout 3600"}
    assert list(town.sets()["youtube"]) == ["198.51.100.0/24"]
    town.restart()
    town.ask("tv", "youtube.com")
    assert [town.goes_by("tv", one) for one in (YOUTUBE, "198.51.100.7", OTHER)] == ["wan2", "wan2", "wan"]
    town.bench.apply()


def test_domains_and_timeout_change_under_a_rule_that_is_in_use(town: Town) -> None:
    town.configure(RULE)
    town.bench.connbal("ipset", "add", "youtube", "--domain", "youtube.com")
    town.restart()
    town.bench.apply()
    town.ask("tv", "youtube.com")
    town.bench.connbal("ipset", "set", "youtube", "--add", "domain=googlevideo.com", "--timeout", "30m")
    town.restart()
    assert town.kinds() == {"youtube": "hash:ip inet timeout 1800"}
    assert town.goes_by("tv", YOUTUBE) == "wan2"
    town.ask("tv", "googlevideo.com")
    assert town.goes_by("tv", VIDEO) == "wan2"
    town.bench.connbal("ipset", "set", "youtube", "--remove", "domain=youtube.com", "--flush")
    town.restart()
    town.ask("tv", "youtube.com")
    town.ask("tv", "googlevideo.com")
    assert set(town.sets()["youtube"]) == {VIDEO}
    assert [town.goes_by("tv", one) for one in (YOUTUBE, VIDEO)] == ["wan", "wan2"]


def test_delete_waits_for_the_rules(town: Town) -> None:
    town.configure(RULE)
    before = town.dhcp.read_text()
    town.bench.connbal("ipset", "add", "youtube", "--domain", "youtube.com", "--family", "any")
    town.bench.apply()
    refused = town.bench.connbal("ipset", "delete", "youtube", check=False)
    assert refused.code == 2
    assert "rule tube names youtube" in refused.stderr
    town.configure()
    refused = town.bench.connbal("ipset", "delete", "youtube", check=False)  # the rule is still in the kernel
    assert refused.code == 1
    assert "in use" in refused.stderr
    assert set(town.sets()) == {"youtube", "youtube6"}
    assert "youtube" in town.dhcp.read_text()
    town.bench.apply()
    town.bench.connbal("ipset", "delete", "youtube")
    assert town.sets() == {}
    assert town.dhcp.read_text().strip() == before.strip()


def test_other_scripts_and_the_lines_of_newer_routers(town: Town) -> None:
    """From 23.05 on there is a line for nftables beside; without such a set it is without effect."""
    town.configure(RULE)
    town.bench.connbal("ipset", "add", "youtube", "--domain", "m\u00fcnchen.de")
    town.restart(nftset=True)
    town.bench.apply()
    [address] = town.ask("tv", "www.xn--mnchen-3ya.de")
    assert town.goes_by("tv", address) == "wan2"


def test_names_in_two_sections_fill_one_set_only(town: Town) -> None:
    """Why that is refused, and a finding where it stands in the file."""
    town.bench.connbal("ipset", "add", "one", "--domain", "youtube.com")
    refused = town.bench.connbal("ipset", "add", "two", "--domain", "youtube.com", check=False)
    assert refused.code == 2
    town.dhcp.write_text(town.dhcp.read_text() + "config ipset\n\tlist name 'two'\n\tlist domain 'youtube.com'\n")
    town.lab.router.run(["ipset", "create", "two", "hash:ip"])
    town.restart()
    town.ask("tv", "youtube.com")
    assert town.sets() == {"one": {YOUTUBE: 0}, "two": {}}
    assert "duplicate-domain" in town.bench.connbal("ipset", "list").stderr
    # A longer name wins over a shorter one, and takes its addresses to its own set alone.
    town.bench.connbal("ipset", "set", "one", "--add", "domain=m.googlevideo.com")
    town.bench.connbal("ipset", "add", "three", "--domain", "googlevideo.com")
    town.restart()
    town.ask("tv", "m.googlevideo.com")
    assert VIDEO in town.sets()["one"]
    assert town.sets()["three"] == {}


# --- beside the daemon ----------------------------------------------------------------------------------------------


def test_the_daemon_looks_into_the_set_for_the_other_family_at_once(
    town: Town, service: Callable[..., Service]
) -> None:
    town.configure(RULE)
    daemon = service(town.lab).start()
    try:
        assert eventually(lambda: town.kinds() == {"youtube": "hash:net inet"})
        town.bench.connbal("ipset", "add", "youtube", "--domain", "youtube.com", "--family", "any", "--timeout", "1h")
        assert town.kinds() == {"youtube": "hash:net inet timeout 3600", "youtube6": "hash:ip inet6 timeout 3600"}
        town.restart()
        town.ask("tv", "youtube.com")
        town.ask("tv", "youtube.com", AAAA)
        assert [town.goes_by("tv", one) for one in (YOUTUBE, YOUTUBE6, OTHER6)] == ["wan2", "wan2", "wan"]
    finally:
        assert daemon.stop() == 0


# --- OpenWrt's init script --------------------------------------------------------------------------------------------

#: Says how it was called, and what the file had then.
SCRIPT = """#!/bin/sh {first}
# By OpenWrt's contract a script is read by rc.common, which its first line names.
echo "$@" >>'{log}'
cat '{dhcp}' >>'{log}'
{last}
"""


def on_openwrt(
    town: Town, *arguments: str, first: str = "", last: str = "exit 0"
) -> subprocess.CompletedProcess[str]:
    """A command where there is an init script of dnsmasq. What is mounted ends with the command."""
    common = town.lab.tmp / "etc/rc.common"
    common.parent.mkdir(exist_ok=True)
    common.write_text('script="$1"\nshift\n. "$script"\n')
    first = first or str(common)
    script = town.lab.tmp / "init-dnsmasq"
    script.write_text(SCRIPT.format(first=first, last=last, log=town.lab.tmp / "init.log", dhcp=town.dhcp))
    argv = [sys.executable, "-m", "connbal.cli.main", "--config-dir", town.lab.config_dir,
            "--run-dir", town.lab.run_dir, *arguments]  # fmt: skip
    shell = 'mount -t tmpfs none /etc/init.d && cp "$0" /etc/init.d/dnsmasq && chmod 755 /etc/init.d/dnsmasq && "$@"'
    return town.lab.router.run(["sh", "-c", shell, str(script), *map(str, argv)], check=False, cwd=ROOT)


def told(town: Town) -> str:
    log = town.lab.tmp / "init.log"
    return log.read_text() if log.exists() else ""


def test_dnsmasq_is_restarted_once_the_file_is_written(town: Town) -> None:
    done = on_openwrt(town, "ipset", "add", "youtube", "--domain", "youtube.com")
    assert done.returncode == 0, done.stderr
    assert "dnsmasq: restarted" in done.stdout
    assert "ipset=" not in done.stdout
    assert told(town).startswith("restart\n")
    assert "list domain 'youtube.com'" in told(town)


def test_dnsmasq_is_left_alone_where_that_is_asked_for(town: Town) -> None:
    for flag in ("--no-apply", "--dry-run"):
        done = on_openwrt(town, "ipset", "add", f"set{flag[2:4]}", "--domain", f"{flag[2:4]}.example.com", flag)
        assert done.returncode == 0, done.stderr
    assert not told(town)
    assert town.sets() == {}
    assert "setno" in town.dhcp.read_text()
    assert "setdr" not in town.dhcp.read_text()


def test_a_script_of_another_system_is_not_run(town: Town) -> None:
    done = on_openwrt(town, "ipset", "add", "youtube", "--domain", "youtube.com", first="-e")
    assert done.returncode == 0, done.stderr
    assert not told(town)
    assert "ipset=/youtube.com/youtube" in done.stdout


def test_a_restart_that_fails_is_said(town: Town) -> None:
    done = on_openwrt(town, "ipset", "add", "youtube", "--domain", "youtube.com", last="echo bad line >&2; exit 3")
    assert done.returncode == 1
    assert "all is written, but dnsmasq has not read it" in done.stderr
    assert "bad line" in done.stderr
    assert "youtube" in town.sets()
    assert "youtube" in town.dhcp.read_text()
