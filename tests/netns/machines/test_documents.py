"""The documents of commands that look at a kernel, held against their shapes."""

from __future__ import annotations

import json
import sys
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
#: Questions of each kind; the second while its connection is open.
QUESTIONS = [
    "--src 192.168.1.20 --dst 203.0.113.9 --proto tcp --dport 443",
    "--src 192.168.1.178 --dst 203.0.113.7 --proto udp --sport 40000 --dport 5000",
    "--src 192.168.1.20 --dst 192.168.1.178 --proto icmp --all",
    "--local --dst 203.0.113.9 --proto udp --dport 53",
    "--src fd01::20 --dst 2001:db8:ffff::1 --proto tcp --dport 443",
    "--src 192.168.1.20 --dst 203.0.113.9 --no-kernel",
]
ASK = """
import socket
asking = socket.socket(type=socket.SOCK_DGRAM)
asking.bind(("", 40000))
asking.sendto(b"x", ("203.0.113.7", 5000))
"""
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


def test_explanations(lab: Callable[..., Lab]) -> None:
    one = lab(["wan", "wan1"])
    router = Service(one)
    router.configure(CONFIG)
    checked(router, "explain --json --src 192.168.1.20 --dst 203.0.113.9")
    router.connbal("apply")
    one.exec_in("tv", [sys.executable, "-c", ASK])
    found = [checked(router, f"explain --json {question}")[0] for question in QUESTIONS]
    assert [document["decided"] for document in found] == ["rule", "connection", "exempt", "rule", "rule", "rule"]
    assert found[1]["new_connection"]["decided"] == "rule"
