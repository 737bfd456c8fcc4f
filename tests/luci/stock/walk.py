"""Every page of luci-app-mwan3 and every button on it, each step with what must come of it."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable

from tests.luci.stock.page import DIALOG, Page
from tests.luci.stock.server import OVERVIEW
from tests.router.configs import HOST
from tests.router.router import Router

Step = Callable[[Page, Router], None]
#: Steps in their order, by the words that they are reported with. Each leaves the router as the next one wants it.
STEPS: dict[str, Step] = {}


def step(words: str) -> Callable[[Step], Step]:
    def keep(function: Step) -> Step:
        STEPS[words] = function
        return function

    return keep


def _file(router: Router) -> str:
    return router.path("/etc/config/mwan3").read_text()


def _section(router: Router, name: str) -> str:
    """The lines of a section, "" where there is none."""
    found = re.search(rf"^config \w+ '{name}'\n((?:\t.*\n)*)", _file(router), re.MULTILINE)
    return found[0] if found else ""


def _names(router: Router, kind: str) -> list[str]:
    return re.findall(rf"^config {kind} '(\w+)'", _file(router), re.MULTILINE)


def _holds(router: Router, text: str, what: str) -> None:
    """Wait until a chain of the router has a text: the daemon has been told of the new file, and has done it."""
    router.wait(lambda: text in router.sh("iptables -t mangle -S"), what)


# --- Status > MultiWAN Manager ---------------------------------------------------------------------------------------


@step("status/overview: a box for each source, online with its time")
def _(page: Page, router: Router) -> None:
    page.open("admin/status/mwan3/overview")
    page.browser.wait(lambda: "Online" in page.text("#mwan3-service-status"), "the state of a source")
    text = page.text("#mwan3-service-status")
    for name in ("wan", "wan1"):
        assert re.search(rf"Interface:\s*{name}\nStatus:\s*Online\nUptime:\s*0h 0m \d+s", text), text
    page.picture("status-overview")


@step("status/overview: follows a source that goes and comes")
def _(page: Page, router: Router) -> None:
    router.ubus("network.interface.wan1", "down")
    boxes = "#mwan3-service-status"
    page.browser.wait(lambda: re.search(r"wan1\nStatus:\s*(Offline|Disabled)", page.text(boxes)), "wan1 to be gone")
    page.picture("status-overview-down")
    router.ubus("network.interface.wan1", "up")
    page.browser.wait(lambda: re.search(r"wan1\nStatus:\s*Online", page.text(boxes)), "wan1 to be back")


@step("status/detail: what mwan3 status prints")
def _(page: Page, router: Router) -> None:
    page.open("admin/status/mwan3/detail")
    text = page.text("#view pre")
    for word in ("Interface status:", "interface wan is online", "balanced:", "wan (50%)", "192.168.1.0/24"):
        assert word in text, text
    page.picture("status-detail")


@step("status/troubleshooting: what mwan3 internal prints")
def _(page: Page, router: Router) -> None:
    page.open("admin/status/mwan3/troubleshooting")
    text = page.text("#view pre")
    assert len(re.findall(r"^.+\n-{10,}$", text, re.MULTILINE)) >= 5, text
    assert "mwan3_policy_balanced" in text
    page.picture("status-troubleshooting")


def _diagnose(page: Page, task: str, interface: str = "wan") -> str:
    page.browser.run("document.getElementById('iface').value = arguments[0]", interface)
    page.browser.run("document.getElementById('task').value = arguments[0]", task)
    page.browser.run("document.querySelector('.command-output').textContent = ''")
    before = len(page.stock.rpcd.calls)
    page.press("Execute")
    page.browser.wait(
        lambda: len([one for one in page.stock.rpcd.calls[before:] if one.method == "exec"]), "the program"
    )
    page.button("Execute")
    assert page.notice() == "", page.notice()
    return page.text(".command-output")


@step("status/diagnostics: Ping default gateway")
def _(page: Page, router: Router) -> None:
    page.open("admin/status/mwan3/diagnostics")
    text = _diagnose(page, "gateway")
    assert "5 packets transmitted, 5 packets received" in text, text
    page.picture("status-diagnostics")


@step("status/diagnostics: Ping tracking IP")
def _(page: Page, router: Router) -> None:
    text = _diagnose(page, "tracking", "wan1")
    assert f"PING {HOST}" in text, text
    assert "5 packets transmitted, 5 packets received" in text, text
    assert "wan1" in text, text


@step("status/diagnostics: Check IP rules")
def _(page: Page, router: Router) -> None:
    text = _diagnose(page, "rules", "wan1")
    assert 'All required IP rules for interface "wan1" found' in text, text
    assert {"1002:", "2002:"} == set(re.findall(r"^\d+:", text, re.MULTILINE)), text


@step("status/diagnostics: Check routing table")
def _(page: Page, router: Router) -> None:
    text = _diagnose(page, "routes", "wan1")
    assert 'Routing table "2" for interface "wan1" found' in text, text
    assert "default via" in text, text


@step("status/diagnostics: Hotplug ifdown, then ifup")
def _(page: Page, router: Router) -> None:
    _diagnose(page, "ifdown", "wan1")
    router.wait(lambda: set(router.lab.tcp("tv", count=20).names) == {"wan"}, "wan to carry all")
    _diagnose(page, "ifup", "wan1")
    router.wait(lambda: set(router.lab.tcp("tv", count=60).names) == {"wan", "wan1"}, "both to carry connections")


@step("status/diagnostics: no source chosen: an answer, and nothing done")
def _(page: Page, router: Router) -> None:
    for task in ("gateway", "tracking", "rules", "routes", "ifup", "ifdown"):
        _diagnose(page, task, "")
    assert router.sh("uci -q show mwan3.wan.enabled").endswith("'1'\n")


@step("overview of LuCI: the box MultiWAN Manager")
def _(page: Page, router: Router) -> None:
    page.open(OVERVIEW)
    text = page.browser.wait_for("#mwan3-service-status", "wan1")
    assert "Online" in text, text
    assert "MultiWAN Manager" in page.text()
    page.picture("overview-box")


# --- Network > MultiWAN Manager --------------------------------------------------------------------------------------


@step("network/globals: logging, level, further table: Save & Apply")
def _(page: Page, router: Router) -> None:
    page.open("admin/network/mwan3/globals")
    assert not page.has("loglevel")
    page.tick("globals", "logging")
    page.browser.wait(lambda: page.has("loglevel"), "the level")
    page.give("globals", "loglevel", "info")
    page.give("globals", "rt_table_lookup", ["220"])
    page.picture("network-globals")
    page.save_and_apply()
    written = _section(router, "globals")
    for line in ("option logging '1'", "option loglevel 'info'", "list rt_table_lookup '220'"):
        assert line in written, written


@step("network/globals: another mask is applied, and so is the old one")
def _(page: Page, router: Router) -> None:
    for mask, seen in (("0xFF0000", "/0xff0000"), ("0x3F00", "/0x3f00")):
        page.give("globals", "mmx_mask", mask)
        page.save_and_apply()
        # The newest LuCI removes what is its default.
        found = re.findall(r"mmx_mask '(.*)'", _section(router, "globals"))
        assert found == [mask] or (found == [] and mask == "0x3F00"), found
        _holds(router, seen, f"mask {mask}")


@step("network/interface: Add, the dialog's fields, Save: staged, not written")
def _(page: Page, router: Router) -> None:
    page.open("admin/network/mwan3/interface")
    assert page.rows() == ["wan", "wan1"]
    page.picture("network-interface")
    before = _file(router)
    page.add("wan2")
    page.tick("wan2", "enabled")
    page.give("wan2", "track_ip", [HOST, "one.example.org"])
    page.give("wan2", "reliability", "2")
    page.give("wan2", "interval", "5")
    page.tick("wan2", "check_quality")
    page.browser.wait(lambda: page.has("failure_loss"), "the limits of quality")
    page.give("wan2", "failure_loss", "25")
    page.give("wan2", "flush_conntrack", ["ifdown", "disconnected"])
    page.picture("network-interface-dialog")
    page.close()
    assert page.rows() == ["wan", "wan1", "wan2"]
    page.save()
    assert _file(router) == before
    assert "mwan3_iface_in_wan2" not in router.sh("iptables -t mangle -S")
    assert "wan2" not in router.ubus("mwan3", "status")["interfaces"]


@step("network/interface: Reset, and Revert what is staged")
def _(page: Page, router: Router) -> None:
    page.press("Reset", ".cbi-page-actions")
    page.ready()
    page.browser.find('[data-indicator="uci-changes"]').click()
    page.browser.find(DIALOG)
    page.picture("changes")
    page.browser.run("window.before = true")
    page.press("Revert", DIALOG)
    page.reloaded()
    assert page.rows() == ["wan", "wan1"]
    assert "wan2" not in _file(router)


@step("network/interface: Add again, Save & Apply")
def _(page: Page, router: Router) -> None:
    page.add("wan2")
    page.tick("wan2", "enabled")
    page.give("wan2", "track_ip", [HOST])
    page.give("wan2", "initial_state", "offline")
    page.give("wan2", "family", "ipv4")
    page.close()
    page.save_and_apply()
    assert _names(router, "interface") == ["wan", "wan1", "wan2"]
    written = _section(router, "wan2")
    assert "option enabled '1'" in written
    assert f"list track_ip '{HOST}'" in written
    assert "option initial_state 'offline'" in written
    router.wait(lambda: router.read("/var/run/mwan3track/wan2/STATUS") != "", "wan2 to be looked after")


@step("network/interface: Edit, Save & Apply: enabled is gone, the source is disabled")
def _(page: Page, router: Router) -> None:
    page.edit("wan2")
    page.tick("wan2", "enabled")
    page.give("wan2", "track_method", "ping")
    page.give("wan2", "count", "2")
    page.close()
    page.save_and_apply()
    router.wait(lambda: router.read("/var/run/mwan3track/wan2/STATUS") == "disabled", "wan2 to be disabled")
    assert "option count '2'" in _section(router, "wan2")


@step("network/member: Add, Edit, Delete: Save & Apply")
def _(page: Page, router: Router) -> None:
    page.open("admin/network/mwan3/member")
    page.add("second")
    page.give("second", "interface", "wan1")
    page.give("second", "metric", "2")
    page.give("second", "weight", "3")
    page.picture("network-member-dialog")
    page.close()
    page.add("spare")
    page.give("spare", "interface", "wan2")
    page.close()
    page.save_and_apply()
    page.picture("network-member")
    assert "option interface 'wan1'\n\toption metric '2'\n\toption weight '3'" in _section(router, "second")
    page.edit("second")
    page.give("second", "metric", "1")
    page.close()
    page.delete("spare")
    page.save_and_apply()
    assert _names(router, "member") == ["wan_m", "wan1_m", "second"]
    assert "option metric '1'" in _section(router, "second")


@step("network/policy: Add with a member, Edit, last resort: Save & Apply")
def _(page: Page, router: Router) -> None:
    page.open("admin/network/mwan3/policy")
    page.add("onlywan1")
    page.give("onlywan1", "use_member", ["second"])
    page.give("onlywan1", "last_resort", "blackhole")
    page.picture("network-policy-dialog")
    page.close()
    page.save_and_apply()
    page.picture("network-policy")
    written = _section(router, "onlywan1")
    assert "list use_member 'second'" in written
    assert "option last_resort 'blackhole'" in written


@step("network/rule: Add with every field, above the rest by drag: Save & Apply, and traffic goes there")
def _(page: Page, router: Router) -> None:
    router.run(["ipset", "create", "youtube", "hash:ip"], check=False)
    page.open("admin/network/mwan3/rule")
    assert "youtube" in str(page.stock.rpcd.calls)
    page.add("web")
    page.give("web", "proto", "tcp")
    page.browser.wait(lambda: page.has("dest_port"), "the ports")
    page.give("web", "dest_ip", "203.0.113.0/24")
    page.give("web", "src_ip", "192.168.1.0/24")
    page.give("web", "dest_port", "5000,8080")
    page.give("web", "src_port", "1024:65535")
    page.give("web", "sticky", "1")
    page.browser.wait(lambda: page.has("timeout"), "the time of a sticky rule")
    page.give("web", "timeout", "60")
    page.give("web", "family", "ipv4")
    page.give("web", "use_policy", "onlywan1")
    page.tick("web", "logging")
    page.picture("network-rule-dialog")
    page.close()
    assert page.rows() == ["everything", "web"]
    page.drag_row("web", "everything")
    assert page.rows() == ["web", "everything"]
    page.save_and_apply()
    page.picture("network-rule")
    assert _names(router, "rule") == ["web", "everything"]
    _holds(router, "mwan3_policy_onlywan1", "the policy")
    router.wait(lambda: set(router.lab.tcp("tv", port=5000, count=20).names) == {"wan1"}, "connections to use wan1")
    assert set(router.lab.tcp("tv", port=443, count=60).names) == {"wan", "wan1"}


@step("network/rule: Delete, of rule and policy and member and source: Save & Apply, and all is as it was")
def _(page: Page, router: Router) -> None:
    page.delete("web")
    page.save_and_apply()
    for kind, name in (("policy", "onlywan1"), ("member", "second"), ("interface", "wan2")):
        page.open(f"admin/network/mwan3/{kind}")
        page.delete(name)
        page.save_and_apply()
        assert name not in _names(router, kind)
    router.wait(lambda: set(router.lab.tcp("tv", count=60).names) == {"wan", "wan1"}, "both to carry connections")
    assert "onlywan1" not in router.sh("iptables -t mangle -S")


@step("network/rule, policy, globals: what only connbal knows stays, and so do sections without a name")
def _(page: Page, router: Router) -> None:
    before = _file(router)
    extra = "\nconfig rule\n\toption dest_port '8443'\n\toption proto 'tcp'\n\toption use_policy 'balanced'\n"
    own = {"globals": "weight_mode 'inverse'", "everything": "enabled '1'", "balanced": "affinity 'pair'"}
    text = before + extra
    for name, option in own.items():
        text = text.replace(f" '{name}'\n", f" '{name}'\n\toption {option}\n", 1)
    router.configure(text)
    page.open("admin/network/mwan3/rule")
    name = next(one for one in page.rows() if one != "everything")
    page.drag_row(name, "everything")
    page.edit("everything")
    page.give("everything", "family", "ipv4")
    page.close()
    page.save_and_apply()
    page.open("admin/network/mwan3/policy")
    page.edit("balanced")
    page.give("balanced", "last_resort", "blackhole")
    page.close()
    page.save_and_apply()
    page.open("admin/network/mwan3/globals")
    page.tick("globals", "logging")
    page.save_and_apply()
    for section, option in own.items():
        assert f"option {option}" in _section(router, section), _file(router)
    assert re.findall(r"^config rule ?'?(\w*)", _file(router), re.MULTILINE) == ["", "everything"], _file(router)
    _holds(router, "8443", "the rule without a name")
    router.configure(before)
    router.run(["/etc/init.d/mwan3", "reload"])


@step("network/notify: Save writes /etc/mwan3.user with mode 0644, and it runs")
def _(page: Page, router: Router) -> None:
    page.open("admin/network/mwan3/notify")
    assert "#!/bin/sh" in page.browser.run("return document.querySelector('textarea').value")
    text = '#!/bin/sh\necho "$ACTION $INTERFACE $DEVICE" >>/tmp/told\n'
    page.browser.find("textarea").type(text)
    page.press("Save", ".cbi-page-actions")
    page.browser.wait(lambda: "Contents have been saved." in page.notice(), "the word that it is saved")
    page.picture("network-notify")
    assert router.path("/etc/mwan3.user").read_text() == text
    assert stat.S_IMODE(router.path("/etc/mwan3.user").stat().st_mode) == 0o644
    router.ubus("network.interface.wan1", "down")
    router.wait(lambda: "ifdown wan1" in router.read("/tmp/told"), "the script to be run")
    router.ubus("network.interface.wan1", "up")
    router.wait(lambda: "connected wan1 e-wan1" in router.read("/tmp/told"), "the script to be run for connected")
