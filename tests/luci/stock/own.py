"""Every element of this project's page in the real LuCI, each step with what must come of it."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.luci.stock.page import DIALOG, Page
from tests.router.router import Router

Step = Callable[[Page, Router], None]
#: Steps in their order, by the words that they are reported with.
STEPS: dict[str, Step] = {}
NODE = "admin/network/connbal"


def step(words: str) -> Callable[[Step], Step]:
    def keep(function: Step) -> Step:
        STEPS[words] = function
        return function

    return keep


def _rules(router: Router) -> list[str]:
    text = router.path("/etc/config/mwan3").read_text()
    return re.findall(r"^config rule ?'?(\w*)", text, re.MULTILINE)


def _shown(page: Page) -> list[str]:
    script = "return [...document.querySelectorAll('[data-rule]')].map(e => e.getAttribute('data-rule'))"
    found: list[str] = page.browser.run(script)
    return found


def _open(page: Page) -> None:
    page.open(NODE)
    page.browser.find("#connbal-source-list [data-source]")


@step("connbal: sources and shares, followed while they change; LuCI's own indicator, no footer")
def _(page: Page, router: Router) -> None:
    _open(page)
    assert "online" in page.text("[data-source=wan]")
    assert re.search(r"wan\s*50 %\s*wan1\s*50 %", page.text("[data-policy=balanced]")), page.text()
    assert page.browser.run("return document.querySelectorAll('.cbi-page-actions').length") == 0
    router.ubus("network.interface.wan1", "down")
    page.browser.wait(lambda: "100 %" in page.text("[data-policy=balanced]"), "wan to have all")
    page.picture("connbal-down")
    router.ubus("network.interface.wan1", "up")
    page.browser.wait(lambda: "50 %" in page.text("[data-policy=balanced]"), "both to have half")


@step("connbal: the three scenarios, previewed and applied")
def _(page: Page, router: Router) -> None:
    browser = page.browser
    browser.run("document.querySelectorAll('details').forEach(e => { e.open = true; });")
    browser.find("#connbal-device-ip").type("192.168.1.178")
    browser.find("#connbal-device-use").press("wan1")
    browser.find("#connbal-device-name").type("SmartTV")
    browser.find("#connbal-device [type=submit]").click()
    browser.wait_for("#connbal-device-preview", "Rule SmartTV")
    page.picture("connbal-preview")
    assert "SmartTV" not in _rules(router)
    browser.find("#connbal-device-apply").click()
    browser.wait_for("#connbal-device-preview", "Written and applied")
    assert _rules(router)[0] == "SmartTV"
    browser.find("#connbal-split-share-1").type("3")
    browser.find("#connbal-split-share-2").type("1")
    browser.find("#connbal-split [type=submit]").click()
    browser.wait_for("#connbal-split-preview", "wan 75 %, wan1 25 %")
    browser.find("#connbal-split-apply").click()
    browser.wait_for("#connbal-split-preview", "Written and applied")
    browser.find("#connbal-failover-1").press("wan1")
    browser.find("#connbal-failover-2").press("wan")
    browser.find("#connbal-failover [type=submit]").click()
    browser.wait_for("#connbal-failover-preview", "wan1, while it is down wan")
    browser.wait(lambda: _shown(page) == _rules(router), "the rules of the file")


@step("connbal: rules by drag, by keys, by buttons")
def _(page: Page, router: Router) -> None:
    browser = page.browser
    _open(page)
    first, second, *_ = before = _rules(router)
    x, y = browser.find(f"[data-rule={first}]").centre
    browser.drag(browser.find(f"[data-rule={second}] .connbal-handle"), (x, y - 12))
    browser.wait(lambda: _rules(router)[:2] == [second, first], "the new order")
    browser.wait_for("#connbal-rules", "is now number 1. Written and applied.")
    browser.wait(lambda: _shown(page)[:2] == [second, first], "the new order to be shown")
    browser.find(f"[data-rule={first}] .connbal-handle").press("\ue013")
    browser.wait(lambda: _rules(router) == before, "the old order")
    browser.wait(lambda: _shown(page) == before, "the old order to be shown")
    label = browser.run("return document.activeElement.getAttribute('aria-label')")
    assert str(label).startswith(f"Move {first}"), label
    browser.find(f"[data-rule={first}] [data-what=down]").click()
    browser.wait(lambda: _shown(page)[:2] == [second, first] == _rules(router)[:2], "the new order")
    browser.find(f"[data-rule={first}] [data-what=up]").click()
    browser.wait(lambda: _shown(page) == before == _rules(router), "the old order")


@step("connbal: a rule disabled, enabled, deleted after LuCI's own question")
def _(page: Page, router: Router) -> None:
    browser = page.browser
    browser.find("[data-rule=SmartTV] [data-what=toggle]").click()
    browser.wait_for("#connbal-rules", "SmartTV is now disabled. Written and applied.")
    browser.wait(lambda: "disabled" in page.text("[data-rule=SmartTV]"), "the rule to look disabled")
    browser.find("[data-rule=SmartTV] [data-what=toggle]").click()
    browser.wait_for("#connbal-rules", "SmartTV is now enabled. Written and applied.")
    browser.find("[data-rule=SmartTV] [data-what=delete]").click()
    browser.wait_for(DIALOG, "Delete SmartTV (from 192.168.1.178)?")
    page.picture("connbal-delete")
    page.press("Cancel", DIALOG)
    page.gone()
    assert "SmartTV" in _rules(router)
    browser.find("[data-rule=SmartTV] [data-what=delete]").click()
    browser.find("#connbal-really-delete").click()
    browser.wait_for("#connbal-rules", "SmartTV is deleted. Written and applied.")
    page.gone()
    assert "SmartTV" not in _rules(router)


@step("connbal: a connection explained, and a question that is wrong")
def _(page: Page, router: Router) -> None:
    browser = page.browser
    _open(page)
    browser.find("#connbal-src").type("192.168.1.20")
    browser.find("#connbal-dst").type("203.0.113.7")
    browser.find("#connbal-proto").press("TCP")
    browser.find("#connbal-dport").type("443")
    browser.find("#connbal-explain [type=submit]").click()
    browser.wait_for("#connbal-story", "matches")
    page.picture("connbal-story")
    browser.find("#connbal-src").type("nonsense")
    browser.find("#connbal-explain [type=submit]").click()
    browser.wait_for("#connbal-story", "nonsense")


@step("connbal: findings with a command to copy")
def _(page: Page, router: Router) -> None:
    browser = page.browser
    browser.wait_for("#connbal-finding-list", "connbal interface set")
    # Not below the theme's head, which stays where it is.
    browser.run("document.querySelector('#connbal-finding-list button').scrollIntoView({ block: 'center' })")
    browser.find("#connbal-finding-list button").click()
    browser.wait(lambda: re.search("Copied|Select it and copy", page.text("#connbal-finding-list")), "the copy")


@step("connbal: names that are markup stay text")
def _(page: Page, router: Router) -> None:
    text = router.path("/etc/config/mwan3").read_text()
    bad = "<img src=x onerror=document.title=1>"
    router.configure(text + f"\nconfig rule 'bad'\n\toption src_ip '{bad}'\n\toption use_policy '{bad}'\n")
    _open(page)
    page.browser.wait_for("#connbal-rule-list", bad)
    page.browser.wait_for("#connbal-finding-list", bad)
    page.browser.find("[data-rule=bad] [data-what=delete]").click()
    page.browser.wait_for(DIALOG, bad)
    assert page.browser.run("return document.querySelectorAll('img').length") == 0
    page.browser.find("#connbal-really-delete").click()
    page.browser.wait_for("#connbal-rules", "bad is deleted")
    assert page.browser.run("return document.querySelectorAll('img').length") == 0


@step("connbal: the daemon is missed, and started again")
def _(page: Page, router: Router) -> None:
    router.run(["/etc/init.d/mwan3", "stop"])
    _open(page)
    page.browser.wait_for("#connbal-banner", "daemon does not run")
    page.picture("connbal-no-daemon")
    router.run(["/etc/init.d/mwan3", "start"])
    page.browser.wait(lambda: page.text("#connbal-banner") == "", "an empty banner")


@step("connbal: fits windows of 1000, 400 and 320 pixels")
def _(page: Page, router: Router) -> None:
    browser = page.browser
    browser.run("document.querySelectorAll('details').forEach(e => { e.open = true; });")
    for width in (400, 320, 1000):
        browser.size(width, 900)
        page.picture(f"connbal-{width}")
        wide = browser.run("return document.documentElement.scrollWidth")
        assert wide <= width, f"{wide} pixels wide in a window of {width}"


def readonly(page: Page, router: Router) -> None:
    """For a session that may only look: nothing is denied that is asked by itself, and nothing can be pressed."""
    _open(page)
    assert "not change anything" in page.text("#connbal-banner")
    free = page.browser.run("return [...document.querySelectorAll('#connbal button:enabled')].map(e => e.textContent)")
    assert set(free) <= {"Explain", "Copy"}, free
    denied = [one for one in page.stock.rpcd.calls if one.code is None or one.code == 6]
    assert denied == [], denied
    page.picture("connbal-readonly")
    for node in [name for name in page.stock.menu if "/mwan3/" in name]:
        page.open(node)
        assert "MultiWAN Manager" in page.text(), node
        places = (f".cbi-{name} button:enabled" for name in ("page-actions", "section-create"))
        script = "return document.querySelectorAll(arguments[0]).length"
        assert page.browser.run(script, ", ".join(places)) == 0, node
