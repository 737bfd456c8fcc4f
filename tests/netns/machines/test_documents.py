"""The documents of commands that look at a kernel, held against their shapes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests import shapes
from tests.lab import Lab
from tests.netns.daemon.conftest import MakeService
from tests.netns.daemon.service import Service
from tests.netns.machines.test_metrics import CONFIG
from tests.unit.test_json import assert_form_is_of

pytestmark = [pytest.mark.netns]

#: Commands in turn, before and beside a daemon.
WITH_KERNEL = ["plan --json", "status --json", "apply --json", "plan --json", "status --json"]
MISTAKE = "\nconfig policy 'lost'\n\tlist use_member 'nobody'\n"


def checked(router: Service, arguments: str) -> list[dict[str, Any]]:
    documents = [json.loads(line) for line in lines(router.connbal(*arguments.split()).stdout)]
    assert documents
    for document in documents:
        shapes.check(document)
        assert_form_is_of(document, arguments)
    return documents


def lines(text: str) -> list[str]:
    """Documents, whether each is one line or there is one over many."""
    return [text] if text.startswith("{\n") else text.splitlines()


def test_commands_that_look_at_the_kernel(lab: Callable[..., Lab], service: MakeService) -> None:
    one = lab(["wan", "wan1"])
    router = service(one)
    router.configure(CONFIG + MISTAKE)
    for arguments in WITH_KERNEL:
        checked(router, arguments)
    router.start()
    router.wait(lambda status: status["interfaces"]["wan1"]["hosts"][0]["state"] == "up", "an answer")
    one.carrier("wan", False)
    router.wait_for("wan", "disabled")
    for arguments in WITH_KERNEL:
        checked(router, arguments)
    (status,) = checked(router, "status --json")
    assert {interface["tracker"] is not None for interface in status["interfaces"]} == {True}
    assert status["daemon"]["reconciles"]["errors"] == 0
    assert len(checked(router, "status --json --watch --interval 0.2 --count 2")) == 2
    assert {record["kind"] for record in checked(router, "events --json")} >= {"daemon", "reconcile", "ifdown"}
