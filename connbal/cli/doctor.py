"""``connbal doctor``: from mwan3 to connbal, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from connbal.cli import findings
from connbal.cli.context import Session
from connbal.cli.output import emit, visible
from connbal.errors import UsageError

if TYPE_CHECKING:
    from connbal.cli.differences import Difference
    from connbal.cli.doctoring import Examination
    from connbal.uci.decode import Decoded


@click.command()
@click.option("--take-over", "take_over", is_flag=True, help="End mwan3, apply, and take away what is left of it.")
@click.option("--clean", is_flag=True, help="Only take away what mwan3 left; it must not be running.")
@click.option("--dry-run", is_flag=True, help="With --take-over or --clean: say what would be done, and do nothing.")
@click.option("--way-back", is_flag=True, help="Say what mwan3 would do otherwise with this configuration.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def doctor(session: Session, take_over: bool, clean: bool, dry_run: bool, way_back: bool, as_json: bool) -> None:
    """Say what of mwan3 runs or is left on this machine, and what changes under connbal.

    Where marks mean the same to both, open connections go on while connbal takes over. What has mwan3's numbers and is
    not certainly mwan3's is left alone and named. mwan3's own stop command is not used: it flushes routing tables of
    others. See docs/moving.md.

    \b
    Examples:
      connbal doctor
      connbal doctor --take-over --dry-run
      connbal doctor --take-over
      connbal doctor --way-back
    """
    if take_over + clean + way_back > 1:
        raise UsageError("--take-over, --clean and --way-back exclude each other; give one of them")
    if dry_run and not (take_over or clean):
        raise UsageError("--dry-run goes with --take-over or --clean; without them nothing is changed anyway")
    if way_back:
        _way_back(session, as_json)
    else:
        _visit(session, take_over, clean, dry_run, as_json)


# --- the way back ------------------------------------------------------------------------------------------------


def _way_back(session: Session, as_json: bool) -> None:
    from connbal.cli.differences import differences
    from connbal.cli.doctoring import configuration

    package, decoded = configuration(session, needed=True)
    found = differences(decoded.config, package)
    if as_json:
        emit("way-back", {"differences": [_difference(one) for one in found]})
        return
    for one in found:
        click.echo(visible(f"{one.place}: mwan3 {one.mwan3} [{one.code}]"))
        if one.remedy:
            click.echo(visible(f"  {one.remedy}"))
    click.echo(f"differences: {len(found)}" if found else "mwan3 would do the same with this configuration")


def _difference(one: Difference) -> dict[str, str]:
    return {"code": one.code, "place": one.place, "mwan3": one.mwan3, "connbal": one.connbal, "remedy": one.remedy}


# --- a visit -----------------------------------------------------------------------------------------------------


def _visit(session: Session, take_over: bool, clean: bool, dry_run: bool, as_json: bool) -> None:
    from connbal.cli.differences import differences
    from connbal.cli.doctoring import configuration, visit

    change = (take_over or clean) and not dry_run
    with visit(session, lock=change) as one:
        package, decoded = configuration(session, needed=take_over)  # read under the lock
        config = decoded.config
        if change:
            (one.take_over if take_over else one.clean)(config)
        found = one.examine(config, clean=clean)
        told = [] if change or found.alone else differences(config, package)
        actions = one.done if change else list(_planned(found, take_over, clean))
    if as_json:
        emit("doctor", _document(found, told, actions, change, decoded))
        return
    findings.show(decoded.findings)
    for line in [*actions, *([] if take_over or clean else _report(found, told))]:
        click.echo(visible(line))
    click.echo(_verdict(found, take_over, clean, change, len(actions)))


def _planned(found: Examination, take_over: bool, clean: bool) -> Iterator[str]:
    """What would be done, in words."""
    if take_over:
        if found.supervised:
            yield "- service mwan3"
        yield from (f"- process {one.pid}: {one.script}" for one in found.running)
        if found.conflicts:
            yield f"- connections marked under {found.left.mask:#x}"
        yield from found.changes
    elif clean and not found.applied:
        yield from (f"- {family.value} chain {name}" for family, names in found.left.chains.items() for name in names)
    if take_over or clean:
        yield from found.removal()


def _report(found: Examination, told: Sequence[Difference]) -> Iterator[str]:
    left = found.left
    for one in found.running:
        yield f"running: process {one.pid}: {' '.join((one.script, *one.arguments))}"
    if found.supervised:
        yield "running: procd keeps service mwan3"
    if found.installed:
        yield f"installed: {', '.join(found.installed)}: remove package mwan3, or hotplug events start it again"
    if left:
        chains = sum(map(len, left.chains.values()))
        counts = ("chains", chains), ("rules", len(left.rules)), ("routes", len(left.routes)), ("sets", len(left.sets))
        yield f"in the kernel: {', '.join(f'{what}: {count}' for what, count in counts)}"
    yield from (f"file: {path}" for path in found.files)
    yield from (f"connections cannot go on: {why}" for why in found.conflicts)
    if left.mask and not found.conflicts and not found.applied:
        yield f"connections can go on: marks mean the same here and there (mask {left.mask:#x})"
    yield from (f"not mwan3's, left alone: {one}" for one in left.others)
    for difference in told:
        yield f"will change: {difference.place}: mwan3 {difference.mwan3}; connbal {difference.connbal}"


def _verdict(found: Examination, take_over: bool, clean: bool, change: bool, actions: int) -> str:
    if change:
        installed = "; remove package mwan3 now" if found.installed else ""
        return (f"changes: {actions}" if actions else "nothing to do") + installed
    if take_over or clean:
        return f"would change: {actions}" if actions else "nothing to do"
    if found.well:
        return "all is well: nothing of mwan3 is left, and connbal is at work"
    if found.running or found.supervised or found.left or found.files:
        return "connbal doctor --take-over takes over; --dry-run shows how"
    if found.installed:
        return "remove package mwan3"
    return "nothing of mwan3 is left; connbal apply makes the kernel as the configuration says"


def _document(
    found: Examination, told: Sequence[Difference], actions: Sequence[str], done: bool, decoded: Decoded
) -> dict[str, Any]:
    from connbal.plan.describe import rule_text
    from connbal.plan.leftovers import route_words

    left = found.left
    return {
        "well": found.well,
        "applied": found.applied,
        "running": [
            {"pid": one.pid, "script": one.script, "interface": one.interface or None} for one in found.running
        ],
        "supervised": found.supervised,
        "installed": list(found.installed),
        "left": {
            "mask": f"{left.mask:#x}" if left.mask else None,
            "ids": dict(left.ids),
            "chains": {family.value: list(names) for family, names in left.chains.items()},
            "rules": [rule_text(one.rule) for one in left.rules],
            "routes": [route_words(one) for one in left.routes],
            "sets": list(left.sets),
            "files": list(found.files),
        },
        "others": list(left.others),
        "conflicts": list(found.conflicts),
        "differences": [_difference(one) for one in told],
        "done": done,
        "changes": list(actions),
        "findings": [findings.as_json(one) for one in decoded.findings],
    }
