"""The page in a real browser, over what rpcd calls, in the router of a lab with its daemon."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from connbal.track import client
from tests.lab import Lab
from tests.luci.browser import PATIENCE, Browser
from tests.luci.host import Host
from tests.netns.daemon.service import Service

pytestmark = pytest.mark.netns

#: What rpcd calls for the object ``connbal``.
BACKEND = Path(__file__).resolve().parents[2] / "files/usr/libexec/rpcd/connbal"
#: Where pictures of the page go; without it none are taken.
PICTURES = os.environ.get("CONNBAL_PICTURES")
CONFIG = """\
config globals 'globals'
	option weight_mode 'inverse'
	option affinity 'pair'

config interface 'wan'
	option enabled '1'
	list track_ip '203.0.113.1'
	option interval '1'

config interface 'wan1'
	option enabled '1'
	list track_ip '203.0.113.2'
	option interval '1'

config interface 'spare'
	option enabled '0'

config member 'TV_Internet'
	option interface 'wan1'

config member 'First'
	option interface 'wan'
	option weight '1'

config member 'Second'
	option interface 'wan1'
	option weight '2'

config policy 'TV_Policy'
	list use_member 'TV_Internet'

config policy 'All_Policy'
	list use_member 'First'
	list use_member 'Second'

config rule 'All_Traffic'
	option dest_ip '0.0.0.0/0'
	option proto 'all'
	option use_policy 'All_Policy'

config rule
	option dest_port '443'
	option proto 'tcp'
	option use_policy 'All_Policy'

config rule 'SmartTV'
	option src_ip '192.168.1.178'
	option use_policy 'TV_Policy'
"""


@dataclasses.dataclass
class World:
    """A lab with its daemon, the host of the page, and a browser."""

    service: Service
    host: Host
    browser: Browser

    def open(self, config: str = CONFIG, query: str = "") -> Browser:
        """The page, with this configuration applied."""
        if self.file != config:
            self.service.configure(config)
            assert client.apply(self.service.lab.run_dir, PATIENCE) is not None
        self.host.calls.clear()
        self.host.said.clear()
        self.browser.complaints()
        self.browser.open(self.host.address + query)
        self.browser.find("body[data-ready]")
        return self.browser

    @property
    def file(self) -> str:
        """The configuration."""
        return (self.service.lab.config_dir / "mwan3").read_text()

    def rules(self) -> list[str]:
        """The rules' names in the file, in order; those without one are empty."""
        return re.findall(r"^config rule ?'?(\w*)", self.file, re.MULTILINE)


@pytest.fixture(scope="module")
def world(lab_available: None) -> Iterator[World]:
    with Lab(("wan", "wan1")) as lab:
        service = Service(lab)

        def run(method: str, args: Mapping[str, Any]) -> str:
            variables = [f"CONNBAL_CONFIG_DIR={lab.config_dir}", f"CONNBAL_RUN_DIR={lab.run_dir}",
                         f"PATH={Path(sys.executable).parent}:{os.environ['PATH']}"]  # fmt: skip
            argv = ["env", *variables, "sh", str(BACKEND), "call", method]
            return lab.router.run(argv, input=json.dumps(args)).stdout

        service.configure(CONFIG)
        service.start()
        try:
            with Host(run) as host, Browser() as browser:
                browser.size(1000, 900)
                yield World(service, host, browser)
        finally:
            service.stop()


def shown_rules(browser: Browser) -> list[str]:
    script = "return [...document.querySelectorAll('[data-rule]')].map(e => e.getAttribute('data-rule'));"
    found: list[str] = browser.run(script)
    return found


def show_forms(browser: Browser) -> None:
    browser.run("document.querySelectorAll('details').forEach(e => { e.open = true; });")


def test_it_shows_how_things_are(world: World) -> None:
    browser = world.open()
    browser.wait(lambda: browser.run("return pollNow()") or "online" in browser.text("[data-source=wan]"), "a source")
    source = browser.wait_for("[data-source=wan]", "203.0.113.1 answers")
    assert "e-wan, IPv4" in source
    assert "ms, 0 % lost" in source
    assert "disabled" in browser.text("[data-source=spare]")
    assert "wan66.7 %wan133.3 %" in browser.text("[data-policy=All_Policy]")
    assert shown_rules(browser) == ["All_Traffic", "@rule[1]", "SmartTV"]
    assert "everything" in browser.text("[data-rule=All_Traffic]")
    assert "from 192.168.1.178" in browser.text("[data-rule=SmartTV]")
    assert browser.text("#connbal-banner") == ""
    browser.wait_for("#connbal-finding-list", "connbal rule move SmartTV --before All_Traffic")
    assert browser.complaints() == []


def test_a_drag_reorders_the_file_and_a_poll_does_not_disturb_it(world: World) -> None:
    browser = world.open()
    target_x, target_y = browser.find("[data-rule=All_Traffic]").centre
    handle = browser.find("[data-rule=SmartTV] .connbal-handle")
    browser.drag(handle, (target_x, target_y - 12), lambda: browser.run("return pollNow()"))
    browser.wait_for("#connbal-rules", "SmartTV is now number 1. Written and applied.")
    assert world.rules() == ["SmartTV", "All_Traffic", ""]
    browser.wait(lambda: shown_rules(browser) == ["SmartTV", "All_Traffic", "@rule[2]"], "the new order")
    assert [method for method, _ in world.host.changes()] == ["move"]


def test_keys_and_buttons_reorder_the_file(world: World) -> None:
    browser = world.open()
    browser.find("[data-rule=SmartTV] .connbal-handle").press("\ue013")  # the key for up
    browser.wait_for("#connbal-rules", "SmartTV is now number 2")
    browser.wait(lambda: shown_rules(browser) == ["All_Traffic", "SmartTV", "@rule[2]"], "the new order")
    assert world.rules() == ["All_Traffic", "SmartTV", ""]
    assert browser.run("return document.activeElement.getAttribute('aria-label')").startswith("Move SmartTV")
    browser.find("[data-rule='@rule[2]'] [data-what=up]").click()
    browser.wait(lambda: shown_rules(browser) == ["All_Traffic", "@rule[1]", "SmartTV"], "the old order")
    assert world.rules() == ["All_Traffic", "", "SmartTV"]


def test_rules_are_disabled_and_deleted(world: World) -> None:
    browser = world.open()
    browser.find("[data-rule=SmartTV] [data-what=toggle]").click()
    browser.wait_for("[data-rule=SmartTV]", "disabled")
    assert "option enabled '0'" in world.file.rpartition("SmartTV")[2]
    browser.find("[data-rule=SmartTV] [data-what=delete]").click()
    browser.find("#connbal-really-delete").click()
    browser.wait_for("#connbal-rules", "SmartTV is deleted")
    assert world.rules() == ["All_Traffic", ""]


def test_it_explains_a_connection(world: World) -> None:
    browser = world.open()
    browser.find("#connbal-src").type("192.168.1.178")
    browser.find("#connbal-dst").type("203.0.113.7")
    browser.find("#connbal-explain [type=submit]").click()
    story = browser.wait_for("#connbal-story", "All_Traffic matches")
    assert re.search(r"It goes by(wan1?), by device e-wan1?", story)
    assert "Policy All_Policy" in story
    browser.find("#connbal-src").type("nonsense")
    browser.find("#connbal-explain [type=submit]").click()
    browser.wait_for("#connbal-story", "nonsense")


def test_a_scenario_is_previewed_and_applied(world: World) -> None:
    browser = world.open()
    show_forms(browser)
    browser.find("#connbal-failover-1").press("wan1")
    browser.find("#connbal-failover-2").press("wan")
    before = world.file
    browser.find("#connbal-failover [type=submit]").click()
    browser.wait_for("#connbal-failover-preview", "wan1, while it is down wan")
    assert world.file == before
    browser.find("#connbal-failover-apply").click()
    browser.wait_for("#connbal-failover-preview", "Written and applied")
    browser.wait_for("[data-policy=All_Policy], [data-rule=All_Traffic]", "All_")
    told = world.service.connbal("explain", "--src", "192.168.1.20", "--dst", "203.0.113.7").stdout
    assert "wan1" in told
    dry = [args["dry_run"] for method, args in world.host.changes() if method == "setup"]
    assert dry == [True, False]


def test_a_split_and_a_device(world: World) -> None:
    browser = world.open()
    show_forms(browser)
    browser.find("#connbal-split-share-1").type("3")
    browser.find("#connbal-split-share-2").type("1")
    browser.find("#connbal-split [type=submit]").click()
    browser.wait_for("#connbal-split-preview", "wan 75 %, wan1 25 %")
    browser.find("#connbal-device-ip").type("192.168.1.20")
    browser.find("#connbal-device-use").press("wan1")
    browser.find("#connbal-device-name").type("Laptop")
    browser.find("#connbal-device [type=submit]").click()
    browser.wait_for("#connbal-device-preview", "Rule Laptop")
    browser.find("#connbal-device-apply").click()
    browser.wait_for("#connbal-device-preview", "Written and applied")
    browser.wait_for("#connbal-rule-list", "Laptop")
    assert world.rules()[0] == "Laptop"


def test_who_may_only_look_can_change_nothing(world: World) -> None:
    browser = world.open(query="?readonly")
    assert "not change anything" in browser.text("#connbal-banner")
    free = browser.run("return [...document.querySelectorAll('button:enabled')].map(e => e.textContent)")
    assert set(free) <= {"Explain", "Copy"}
    x, y = browser.find("[data-rule=All_Traffic]").centre
    browser.drag(browser.find("[data-rule=SmartTV] .connbal-handle"), (x, y))
    assert world.host.changes() == []
    assert world.rules() == ["All_Traffic", "", "SmartTV"]


def test_hostile_texts_are_not_executed(world: World) -> None:
    bad = "<img src=x onerror=document.title='hacked'><script>document.title='hacked'</script>"
    status = world.service.connbal("status", "--json").stdout
    browser = world.open(CONFIG.replace("'192.168.1.178'", f'"{bad}"').replace("203.0.113.2", bad.replace("'", "`")))
    browser.wait_for("#connbal-rule-list", bad)
    world.host.said["status"] = {**_spoiled(status, bad), "schema": "status/1"}
    world.host.said["check"] = {"schema": "error/1", "error": bad}
    browser.open(world.host.address)
    browser.wait_for("#connbal-source-list", bad)
    browser.wait_for("#connbal-finding-list", bad)
    assert browser.run("return document.querySelectorAll('img, #view script').length") == 0
    assert browser.run("return document.title") == "Connection Balancing"


def _spoiled(text: str, bad: str) -> dict[str, Any]:
    """A document of which every word for people is ``bad``."""

    def spoil(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: spoil(one, name) for name, one in value.items()}
        if isinstance(value, list):
            return [spoil(one, key) for one in value]
        return bad if isinstance(value, str) else value

    found: dict[str, Any] = spoil(json.loads(text))
    return found


def test_the_daemon_is_missed_and_found_again(world: World) -> None:
    browser = world.open()
    looks: list[tuple[str, dict[str, str]]] = [("status", {}), ("list", {"type": "rule"})]
    answers = {method: world.host.ubus("connbal", method, args)["answer"] for method, args in looks}
    world.host.said.update(answers, status={**answers["status"], "daemon": None})
    browser.run("return pollNow()")
    browser.wait_for("#connbal-banner", "daemon does not run")
    world.host.said["status"] = {"schema": "error/1", "error": "the file cannot be read"}
    browser.run("return pollNow()")
    browser.wait_for("#connbal-banner", "out of date. the file cannot be read")
    world.host.said["status"] = answers["status"]
    browser.run("return pollNow()")
    browser.wait(lambda: browser.text("#connbal-banner") == "", "an empty banner")


def test_it_fits_a_phone(world: World) -> None:
    browser = world.open()
    show_forms(browser)
    browser.find("#connbal-src").type("192.168.1.178")
    browser.find("#connbal-dst").type("203.0.113.7")
    browser.find("#connbal-explain [type=submit]").click()
    browser.find("#connbal-split-share-1").type("2")
    browser.find("#connbal-split-share-2").type("1")
    browser.find("#connbal-split [type=submit]").click()
    browser.wait_for("#connbal-story", "It goes by")
    browser.wait_for("#connbal-split-preview", "Rule All_Traffic")
    for width in (1000, 400, 320):
        browser.size(width, 900)
        wide = browser.run("return document.documentElement.scrollWidth")
        if PICTURES:
            browser.picture(Path(PICTURES) / f"page-{width}.png")
        assert wide <= width, f"{wide} pixels wide in a window of {width}"
    browser.size(1000, 900)


def hidden(browser: Browser) -> bool:
    return bool(browser.run("return document.getElementById('connbal-waiting').hidden"))


def test_a_change_goes_back_by_itself_or_is_kept(world: World) -> None:
    """The page counts down, keeps, takes back, and shows what others have made with a way back."""
    browser = world.open()
    before = world.file
    assert hidden(browser)
    browser.run(
        "const e = document.getElementById('connbal-go-back'); e.value = '30'; e.dispatchEvent(new Event('change'));"
    )
    browser.find("[data-rule=SmartTV] [data-what=toggle]").click()
    browser.wait_for("#connbal-rules", "It goes back by itself in")
    assert re.search(r"[23]\d s left\.", browser.wait_for("#connbal-waiting", "s left"))
    assert "option enabled '0'" in world.file
    browser.find("#connbal-take-back").click()
    browser.wait_for("#connbal", "The change is taken back.")
    browser.wait(lambda: hidden(browser), "nothing to wait")
    assert world.file == before

    browser.find("[data-rule=SmartTV] [data-what=toggle]").click()
    browser.wait_for("#connbal-waiting", "s left")
    browser.find("#connbal-keep").click()
    browser.wait_for("#connbal", "The change is kept.")
    browser.wait(lambda: hidden(browser), "nothing to wait")
    assert "option enabled '0'" in world.file
    assert world.service.connbal("confirm", check=False).returncode == 1

    kept = world.file
    world.service.connbal("rule", "enable", "SmartTV", "--confirm", "5")
    browser.run("return pollNow()")
    browser.wait_for("#connbal-waiting", "enabled rule SmartTV")
    browser.wait(lambda: world.file == kept, "it to go back")
    browser.run("return pollNow()")
    browser.wait(lambda: browser.run("return pollNow()") or hidden(browser), "nothing to wait")
    assert browser.complaints() == []
