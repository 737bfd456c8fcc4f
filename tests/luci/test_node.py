"""The page's logic, in node's own test runner: ``tests/luci/node/*.test.js``."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "openwrt/luci-app-connbal"
METHODS = {
    "read": {"status", "list", "show", "check", "explain", "diagnose"},
    "write": {"add", "set", "move", "delete", "rename", "setup", "apply", "confirm"},
}


def test_the_logic_of_the_page() -> None:
    files = sorted(str(path) for path in (ROOT / "tests/luci/node").glob("*.test.js"))
    program = ["node", "--test", *files]
    ran = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert len(files) >= 2
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_acl_allows_connbal_and_nothing_else() -> None:
    acl = json.loads((APP / "root/usr/share/rpcd/acl.d/luci-app-connbal.json").read_text())
    assert list(acl) == ["luci-app-connbal"]
    group = acl["luci-app-connbal"]
    assert set(group) == {"description", "read", "write"}
    for kind, methods in METHODS.items():
        assert set(group[kind]) == {"ubus"}
        assert list(group[kind]["ubus"]) == ["connbal"]
        assert set(group[kind]["ubus"]["connbal"]) == methods


def test_the_menu_leads_to_the_view_and_asks_for_the_acl() -> None:
    menu = json.loads((APP / "root/usr/share/luci/menu.d/luci-app-connbal.json").read_text())
    [(_, entry)] = menu.items()
    assert entry["title"] == "Connection Balancing"
    assert entry["depends"] == {"acl": ["luci-app-connbal"]}
    assert entry["action"]["type"] == "view"
    assert (APP / f"htdocs/luci-static/resources/view/{entry['action']['path']}.js").is_file()
