"""``connbal diagnose``: what is wrong with a source, step by step."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from connbal.cli import complete
from connbal.cli.context import Session
from connbal.cli.output import emit, progress, table, visible
from connbal.errors import UsageError

if TYPE_CHECKING:
    from connbal.model.config import Config, Interface
    from connbal.plan.state import KernelState
    from connbal.reconcile import Report
    from connbal.track.evidence import Diagnosis, Evidence
    from connbal.track.inquiry import Question

#: Seconds to wait for a daemon that is about to put things right.
_MOMENT = 0.7


@click.command()
@click.argument("interface", metavar="[IF]", required=False, shell_complete=complete.sections("interface"))
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def diagnose(session: Session, interface: str | None, as_json: bool) -> None:
    """Test interface IF step by step and say in words what is wrong; without IF, a line for each enabled one.

    Tests the section, the network, the link, its address and default route, connbal's rules, table and chain for it,
    whether the gateway, DNS servers and track hosts answer through it, which policies use it, and what the daemon
    says. A step that cannot work because of an earlier one is skipped. Takes 12 seconds at most. Exit code 1 if
    something failed.

    \b
    Examples:
      connbal diagnose wan1
      connbal diagnose
      connbal diagnose wan1 --json
    """
    found = examine(session, interface)
    if as_json:
        emit("diagnose", {"interfaces": [_as_json(one) for one in found]})
    elif interface is not None:
        click.echo(_one(found[0]), nl=False)
    else:
        click.echo(_all(found), nl=False)
    if any(one.wrong for one in found):
        click.get_current_context().exit(1)


def examine(session: Session, name: str | None) -> list[Diagnosis]:
    """Diagnose one interface, or all that are enabled. Raises UsageError for one that no section defines."""
    from connbal.model.config import PACKAGE
    from connbal.track import diagnosis
    from connbal.uci.decode import decode

    package = session.store().load(PACKAGE)
    config = decode(package).config
    wanted = [one for one in config.interfaces if (one.enabled if name is None else one.name == name)]
    if not wanted:
        if name is None:
            return []
        known = [section.name for section in package.of_type("interface")]
        if name in known:
            return [diagnosis.left_out(name)]
        raise UsageError(f"no interface {name!r} in {session.config_file}{_nearest(name, known)}")
    seen = _look(session, config, wanted)
    answers = _asked({one.interface.name: one for one in seen if diagnosis.can_be_probed(one)})
    return [diagnosis.diagnose(replace(one, answers=answers.get(one.interface.name, one.answers))) for one in seen]


def _nearest(name: str, known: Sequence[str]) -> str:
    import difflib

    found = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {found[0]}?" if found else ""


def _look(session: Session, config: Config, wanted: Sequence[Interface]) -> list[Evidence]:
    """Everything but what probes find out. Raises KernelError."""
    from connbal.track import client, report
    from connbal.track.evidence import Evidence

    daemon = client.status(session.run_dir)
    runs = daemon is not None and ("busy" in daemon or report.is_answer(daemon))
    if daemon is not None and not report.is_answer(daemon):
        daemon = None
    seen, kernel, applied = _kernel(session, config, patient=runs)
    forced = session.run().forced()
    found = []
    for interface in wanted:
        network = seen.facts.network(interface.name, interface.family)
        device = network.device if network is not None else None
        found.append(Evidence(
            config, interface, network, seen.facts.links.get(device) if device else None, seen.plan, kernel, applied,
            tuple(seen.changes) if applied else (), runs,
            daemon["interfaces"].get(interface.name) if daemon is not None else None, forced.get(interface.name),
        ))  # fmt: skip
    return found


def _kernel(session: Session, config: Config, patient: bool) -> tuple[Report, KernelState, bool]:
    """The plan with its facts and what is left to do, the kernel as it is, and whether connbal is applied at all."""
    from connbal.model.config import FAMILIES
    from connbal.plan.state import KernelState

    with session.machine() as machine:
        reconciler = machine.reconciler(lambda config, facts: session.run().health())
        seen = reconciler.preview(config)
        if seen.changes and patient:
            time.sleep(_MOMENT)
            seen = reconciler.preview(config)
        routing = machine.kernel.routing.read()
        tables = machine.kernel.xtables
        chains = {family: tables.save(family) for family in FAMILIES if tables.available(family)}
        state = KernelState(chains, {}, routing.ip_rules, routing.routes, routing.copies)
        return seen, state, reconciler.applied()


def _asked(seen: Mapping[str, Evidence]) -> Mapping[str, Any]:
    """What answers by each source that can be probed."""
    if not seen:
        return {}
    from connbal.track import inquiry

    with progress(f"waiting for answers, {inquiry.LIMIT:g} seconds at most"):
        return inquiry.ask(dict(_questions(seen)))


def _questions(seen: Mapping[str, Evidence]) -> Iterator[tuple[str, Question]]:
    from connbal.model.marks import MarkSpace
    from connbal.track.inquiry import Question
    from connbal.track.resolver import usable

    for name, one in seen.items():
        assert one.network is not None
        assert one.network.device is not None
        mark = MarkSpace(one.config.globals.mmx_mask).mark(one.id)
        servers = tuple(usable(one.network.name_servers))
        yield name, Question(one.interface, one.network.device, mark, one.gateway, servers)


# --- output -------------------------------------------------------------------------------------------------------


def _one(found: Diagnosis) -> str:
    family = f", {found.family.value}" if found.family else ""
    device = f", {found.device}" if found.device else ""
    rows = [(step.name, step.result.value, step.text) for step in found.steps]
    lines = table(f"{found.interface}{family}{device}", ("STEP", "RESULT", "WHAT"), rows)
    verdict = visible(f"{found.interface}: {found.wrong or 'nothing is wrong'}")
    remedy = [visible(f"remedy: {found.remedy}")] if found.remedy else []
    return "".join(f"{line}\n" for line in (*lines, "", verdict, *remedy))


def _all(found: Sequence[Diagnosis]) -> str:
    if not found:
        return "no interface is enabled\n"
    rows = [
        (one.interface, one.family.value if one.family else "-", one.device or "-", "FAIL" if one.wrong else "ok",
         one.wrong or "nothing is wrong")
        for one in found
    ]  # fmt: skip
    return "".join(f"{line}\n" for line in table("", ("INTERFACE", "FAMILY", "DEVICE", "RESULT", "WHAT"), rows))


def _as_json(found: Diagnosis) -> dict[str, Any]:
    return {
        "name": found.interface,
        "family": found.family.value if found.family else None,
        "device": found.device,
        "ok": not found.wrong,
        "wrong": found.wrong or None,
        "remedy": found.remedy or None,
        "steps": [
            {"step": one.name, "result": one.result.value.lower(), "text": one.text, "remedy": one.remedy or None}
            for one in found.steps
        ],
    }
