"""Metrics out of what a look has found. What the kernel counts, tests/netns/cli holds against real traffic."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from connbal.cli import metrics as module
from connbal.cli.exposition import render
from connbal.cli.metrics import Traffic, collect
from connbal.cli.metrics import metrics as command
from connbal.cli.status import Look
from connbal.kernel.conntrack import Tally
from connbal.kernel.devices import Counters, parse
from connbal.model.marks import MarkSpace
from tests.exposition import Family, read
from tests.unit.cli.test_status import DAEMON, WAN, Fake, seen, session

__all__ = ["session"]

ROOT = Path(__file__).resolve().parents[3]
SPACE = MarkSpace(0x3F00)


def told(look: Look, counted: Traffic | None = None) -> dict[str, Family]:
    return read(render(collect(look, counted or Traffic())))


def test_without_a_daemon(session: Fake) -> None:
    found = told(seen(session))
    assert found["connbal_daemon_up"].value() == 0
    assert found["connbal_applied"].value() == 1
    assert found["connbal_interface_up"].value(interface="wan") == 1
    assert found["connbal_interface_enabled"].value(interface="wan2") == 0
    assert not [name for name in found if "score" in name or "host" in name or "reconcile" in name]


def test_with_a_daemon(session: Fake) -> None:
    found = told(seen(session, DAEMON))
    assert found["connbal_daemon_up"].value() == 1
    assert found["connbal_daemon_uptime_seconds"].value() == 7500.2
    assert found["connbal_reconciles_total"].value() == 14
    assert found["connbal_interface_score"].value(interface="wan1") == 7
    assert found["connbal_interface_score_top"].value(interface="wan1") == 10
    assert found["connbal_interface_state_age_seconds"].value(interface="wan1") == 45
    states = {dict(labels)["state"] for labels, value in found["connbal_interface_state"].samples.items()
              if value and ("interface", "wan1") in labels}  # fmt: skip
    assert states == {"disconnecting"}
    assert found["connbal_host_latency_seconds"].value(interface="wan", host="1.1.1.1") == 0.0234
    assert found["connbal_host_loss_ratio"].value(interface="wan1", host="9.9.9.9") == 0.333
    assert found["connbal_host_up"].value(interface="wan1", host="9.9.9.9") == 0
    assert len(found["connbal_host_up"].samples) == 2  # nothing is known of a host that was passed over
    # One of an earlier version does not say.
    assert not {"connbal_reconcile_errors_total", "connbal_repairs_total"} & set(found)


def test_what_the_daemon_counts(session: Fake) -> None:
    runs = {"count": 14, "errors": 2, "last": {"seconds": 0.25}, "repairs": {"count": 3}}
    found = told(seen(session, {**DAEMON, "reconciles": runs}))
    assert found["connbal_reconcile_errors_total"].value() == 2
    assert found["connbal_repairs_total"].value() == 3
    assert found["connbal_reconcile_last_duration_seconds"].value() == 0.25


def test_a_daemon_of_another_version(session: Fake) -> None:
    found = told(replace(seen(session), strange=True))
    assert found["connbal_scrape_success"].value(part="daemon") == 0


def test_shares(session: Fake) -> None:
    shares = told(seen(session))["connbal_policy_share_ratio"].samples
    by_policy: dict[tuple[str, str], float] = {}
    for labels, value in shares.items():
        place = dict(labels)
        key = place["policy"], place["family"]
        by_policy[key] = by_policy.get(key, 0.0) + value
    assert by_policy
    assert all(total == pytest.approx(1) for total in by_policy.values())


def test_connections_by_interface(session: Fake) -> None:
    look = seen(session)
    tallies = {
        SPACE.mark(look.plan.ids["wan"]) | 0x1: Tally(3, 100, 200, accounted=True),
        SPACE.mark(look.plan.ids["wan"]): Tally(1, 1, 2, accounted=True),
        0x1: Tally(5, 7, 7, accounted=True),
        SPACE.mark(SPACE.highest): Tally(2, accounted=True),
        SPACE.mark(40): Tally(4, accounted=True),
    }
    found = told(look, Traffic(tallies))
    connections = found["connbal_interface_connections"]
    assert connections.value(interface="wan") == 4
    assert connections.value(interface="wan1") == 0
    assert {dict(labels)["mark"]: value for labels, value in found["connbal_connections"].samples.items()} == {
        "none": 5, "default": 2, "unreachable": 0, "blackhole": 0, "other": 4,
    }  # fmt: skip
    carried = found["connbal_interface_connections_bytes"]
    assert carried.value(interface="wan", direction="original") == 101
    assert carried.value(interface="wan", direction="reply") == 202


def test_bytes_that_nobody_counts_are_not_told(session: Fake) -> None:
    found = told(seen(session), Traffic({0x100: Tally(3)}))
    assert "connbal_interface_connections_bytes" not in found


def test_parts_that_cannot_be_read_are_said_and_left_out(session: Fake) -> None:
    found = told(seen(session), Traffic(failed=frozenset({"connections"})))
    assert found["connbal_scrape_success"].value(part="connections") == 0
    assert found["connbal_scrape_success"].value(part="devices") == 1
    assert "connbal_interface_connections" not in found


def test_devices(session: Fake) -> None:
    found = told(seen(session), Traffic(devices={"eth1": Counters(5, 6), "lo": Counters(1, 1)}))
    assert found["connbal_device_receive_bytes_total"].samples == {
        frozenset({("interface", "wan"), ("device", "eth1")}): 5
    }
    assert found["connbal_device_transmit_bytes_total"].value(interface="wan", device="eth1") == 6


def test_traffic_makes_no_samples(session: Fake) -> None:
    """Whatever marks and devices there are, there are as many samples as before."""
    look = seen(session, DAEMON)
    few, many = (
        sum(len(family.samples) for family in told(look, Traffic(tallies, devices)).values())
        for tallies, devices in (
            ({0x100: Tally(1, accounted=True)}, {}),
            ({mark: Tally(1, accounted=True) for mark in range(0, 1 << 16, 7)},
             {f"veth{number}": Counters(1, 1) for number in range(1000)}),
        )
    )  # fmt: skip
    assert few == many


def test_names_are_escaped(session: Fake) -> None:
    host = {"host": 'a"\n\\b', "state": "up", "latency": 1.0, "loss": 0.0, "fault": ""}
    daemon: dict[str, Any] = {**DAEMON, "interfaces": {"wan": {**WAN, "hosts": [host, host]}}}
    found = told(seen(session, daemon))
    assert found["connbal_host_up"].value(interface="wan", host='a"\n\\b') == 1


def test_the_table_of_the_kernel() -> None:
    titles = "Inter-|   Receive\n face |bytes\n"
    text = f"{titles}    lo: 10 1 0 0 0 0 0 0 20 2 0 0 0 0 0 0\nwan.1:3 1 0 0 0 0 0 0 4 2 0 0 0 0 0 0\n"
    assert parse(text) == {"lo": Counters(10, 20), "wan.1": Counters(3, 4)}
    with pytest.raises(ValueError, match="no line about a device"):
        parse("\n\nlo 1 2 3\n")


def test_a_file_is_replaced_in_one_step(session: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "traffic", Traffic)
    target = tmp_path / "connbal.prom"
    target.write_text("old")
    before = target.stat().st_ino
    done = CliRunner().invoke(command, ["--textfile", str(target)], obj=session, catch_exceptions=False)
    assert (done.exit_code, done.output) == (0, "")
    assert read(target.read_text())["connbal_daemon_up"].value() == 0
    assert target.stat().st_ino != before
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".prom"] == ["connbal.prom"]


def test_the_page_names_every_metric_and_no_other(session: Fake) -> None:
    counted = Traffic({0x100: Tally(1, accounted=True)}, {"eth1": Counters(1, 1)})
    runs = {"count": 14, "errors": 2, "last": {"seconds": 0.25}, "repairs": {"count": 3}}
    families = told(seen(session, {**DAEMON, "reconciles": runs}), counted)
    rows = re.findall(
        r"^\| `(connbal_\w+)` \| (\w+) \| ([^|]*)\|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE
    )
    labels = {name: {label for labels in family.samples for label, _ in labels} for name, family in families.items()}
    assert {name: (kind, set(re.findall(r"`(\w+)`", words))) for name, kind, words in rows} == {
        name: (family.kind, labels[name]) for name, family in families.items()
    }
