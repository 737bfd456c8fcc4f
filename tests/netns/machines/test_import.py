"""An import takes effect at once, whole, and once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.lab import Lab, snapshot
from tests.netns.daemon.conftest import MakeService
from tests.netns.daemon.service import Service
from tests.netns.machines.test_metrics import CONFIG

pytestmark = [pytest.mark.netns]


def take(router: Service, document: dict[str, Any], *options: str) -> dict[str, Any]:
    path = router.lab.tmp / "import.json"
    path.write_text(json.dumps(document))
    found: dict[str, Any] = json.loads(router.connbal("import", "--json", *options, str(path)).stdout)
    return found


@pytest.mark.parametrize("daemon", [False, True], ids=["applied", "daemon"])
def test_an_import_is_applied_at_once(lab: Callable[..., Lab], service: MakeService, daemon: bool) -> None:
    one = lab(["wan", "wan1"])
    router = service(one)
    router.configure(CONFIG)
    if daemon:
        router.start()
        router.wait_for(["wan", "wan1"], "online")
    else:
        router.connbal("apply")
    document = json.loads(router.connbal("export").stdout)
    assert set(one.tcp("tv", count=10).names) == {"wan1"}
    for section in document["sections"]:
        if section["name"] == "m1":
            section["options"]["interface"] = "wan"
    before = snapshot(one.router)
    told = take(router, document, "--no-apply", "--dry-run")
    assert (told["changed"], told["applied"], snapshot(one.router) == before) == (True, None, True)
    told = take(router, document)
    assert told["applied"]["by"] == ("daemon" if daemon else "command")
    assert set(one.tcp("tv", count=10).names) == {"wan"}
    after = snapshot(one.router)
    told = take(router, document)
    assert (told["changed"], told["applied"], snapshot(one.router) == after) == (False, None, True)
