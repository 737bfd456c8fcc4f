"""What feeds the reconciler with facts: worked out anew only where something has changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from connbal.cli.context import Session
from connbal.cli.machine import Machine
from connbal.kernel import facts, ubus
from connbal.kernel.api import Kernel
from connbal.model.config import Family
from connbal.plan.state import SetState
from tests.fakes.build import config
from tests.fakes.router import Router


@pytest.fixture
def router() -> Router:
    return Router()


def test_facts_are_gathered_once_while_only_uptimes_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, router: Router
) -> None:
    told = [ubus.NetifdInterface("wan", True, "eth1", uptime=100), ubus.NetifdInterface("wan1", True, "eth2", uptime=3)]
    made = []
    gather: Callable[..., object] = facts.gather

    def counted(*arguments: object, **named: object) -> object:
        made.append(1)
        return gather(*arguments, **named)

    monkeypatch.setattr(ubus, "dump", lambda timeout: tuple(told))
    monkeypatch.setattr(facts, "gather", counted)
    kernel: Kernel = router.kernel.api
    machine = Machine(Session(str(tmp_path), str(tmp_path)), kernel, lambda: None)
    source = machine._facts_source(lambda config, facts: {})
    state = kernel.routing.read()
    sets: dict[str, SetState] = {}
    wanted = config()
    for seconds in range(5):
        told[:] = [replace(one, uptime=(one.uptime or 0) + 1) for one in told]
        found = source(wanted, state, sets)
        network = found.network("wan", Family.IPV4)
        assert network is not None
        assert network.uptime == 101 + seconds
    assert len(made) == 1
    told[1] = replace(told[1], up=False)
    source(wanted, state, sets)
    assert len(made) == 2
