"""Measuring another program beside connbal: the counting is right, and its files and its adapter are used."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import against
from tests.bench.meter import Meter


@pytest.mark.netns
def test_another_program_takes_the_place_of_connbal(lab_available: None, tmp_path: Path) -> None:
    """One that only writes down what it was told."""
    tree = tmp_path / "other"
    (tree / "files/etc").mkdir(parents=True)
    (tree / "files/etc/of-the-other").write_text("here\n")
    (tree / "adapter").write_text('#!/bin/sh\necho "$1" >>/tmp/told\n')
    (tree / "adapter").chmod(0o755)
    with against.pair_of(tree, 1, against.configuration(1, "60")) as (ours, theirs):
        theirs.do("start")
        theirs.do("restart")
        assert (ours.name, theirs.name) == ("connbal", "other")
        assert theirs.router.read("/tmp/told") == "start\nrestart"
        assert theirs.router.read("/etc/of-the-other") == "here"
        assert not any(theirs.router.path("/etc/hotplug.d/iface").iterdir())
        assert ours.router.read("/etc/config/mwan3") == theirs.router.read("/etc/config/mwan3") != ""
        programs_and_processor_time_are_counted(ours.meter)


def programs_and_processor_time_are_counted(meter: Meter) -> None:
    shell = meter.measure(lambda: meter.router.sh(":"))
    five = meter.measure(lambda: meter.router.sh("for _ in 1 2 3 4 5; do /bin/busybox true; done"))
    busy = meter.measure(lambda: meter.router.sh("/bin/busybox dd if=/dev/zero of=/dev/null bs=65536 count=20000"))
    assert five.started == shell.started + 5
    assert busy.cpu > shell.cpu
