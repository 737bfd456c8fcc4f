"""``connbal use``: a command whose packets leave by one interface, whatever the rules say.

The command runs with a group id that is reserved for the interface, as root and in place of this process: nothing
stands between it and who called, neither for its exit code nor for signals, and it may be linked statically. Lines in
``OUTPUT`` mark what processes of that group send. They are made the first time that this command is used, and stay
until connbal is stopped.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import click

from connbal.cli import complete
from connbal.cli.applying import apply_now
from connbal.cli.context import Session
from connbal.cli.output import visible
from connbal.errors import KernelError, UsageError
from connbal.model.marks import STEER_GROUP, MarkSpace
from connbal.plan.chains import STEER

if TYPE_CHECKING:
    from connbal.model.config import Family, Interface
    from connbal.plan.ledger import Ledger

#: What a shell answers where a program cannot be run, and where there is none.
CANNOT_RUN, NOT_FOUND = 126, 127
_IFA_F_UNUSABLE = 0x08 | 0x20 | 0x40  # duplicate, deprecated, tentative (if_addr.h)


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("interface", shell_complete=complete.sections("interface"))
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def use(session: Session, interface: str, command: tuple[str, ...]) -> None:
    """Run COMMAND so that what it sends leaves by INTERFACE.

    It works for an interface that policies do not use because its probes fail, but needs its network to be up. Only
    packets of the interface's family are meant. The address they leave with is the one the main table chooses, unless
    the firewall masquerades or the command asks for the interface's own: DEVICE, SRCIP and FWMARK are in its
    environment. The exit code is that of the command; 127: there is no such program, 126: it cannot be run.

    \b
    Examples:
      connbal use wan1 ping -c 3 1.1.1.1
      connbal use wan2 wget -O - http://example.org/
    """
    settings = _settings(session, interface)
    ledger = _ready(session, settings)
    number = ledger.ids[interface]
    device = _device(session, settings)
    told = {
        "DEVICE": device, "SRCIP": _address(device, settings.family),
        "FWMARK": f"{MarkSpace(ledger.mask).mark(number):#x}", "FAMILY": settings.family.value,
    }  # fmt: skip
    words = " ".join(f"{name}={value}" for name, value in told.items())
    click.echo(visible(f"Running '{' '.join(command)}' with {words}"), err=True)
    _become(command, STEER_GROUP + number, {**os.environ, **told})


def _settings(session: Session, name: str) -> Interface:
    known = {one.name: one for one in session.decoded().config.interfaces}
    if name not in known:
        import difflib

        near = "".join(f"; did you mean {one}?" for one in difflib.get_close_matches(name, known, 1))
        raise UsageError(f"no interface {name!r} in {session.config_file}{near}")
    if not known[name].enabled:
        raise KernelError("connbal use", None, f"{name} is not enabled: connbal interface enable {name}")
    return known[name]


def _ready(session: Session, settings: Interface) -> Ledger:
    """The ledger of a kernel that sends the interface's group by the interface. KernelError: why it does not."""
    run = session.run()
    if _is_ready(ledger := run.load(), settings):
        return ledger
    run.steer(True)
    applied = apply_now(session, done="remembered")
    if applied.by == "nobody":
        raise KernelError("connbal use", None, applied.reason)
    for finding in applied.findings:
        if finding.code == "no-owner":
            run.steer(False)
            raise KernelError("connbal use", None, str(finding))
    if not _is_ready(ledger := run.load(), settings):
        _, why = applied.interfaces.get(settings.name, (False, "it has no mark of its own"))
        raise KernelError("connbal use", None, f"nothing can leave by {settings.name}: {why}")
    return ledger


def _is_ready(ledger: Ledger, settings: Interface) -> bool:
    here = ledger.present & ledger.ids.keys()
    return settings.name in here and STEER in ledger.chains.get(settings.family, {})


def _become(command: Sequence[str], group: int, environment: dict[str, str]) -> NoReturn:
    """Be the command from now on. The user stays who it is; files that it makes get the group."""
    try:
        os.setgid(group)
    except OSError as error:
        raise KernelError("setgid", None, error.strerror or str(error)) from error
    sys.stderr.flush()
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these, and what is ignored is inherited
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(command[0], list(command), environment)
    except OSError as error:
        click.echo(f"connbal: {visible(command[0])}: {error.strerror}", err=True)
        # As execvp of the C library, Python tries each directory of PATH; what it says last is not always why.
        sys.exit(NOT_FOUND if isinstance(error, FileNotFoundError | NotADirectoryError) else CANNOT_RUN)
    except ValueError as error:
        raise UsageError(f"{command[0]!r}: {error}") from error


# --- what is told to the command ----------------------------------------------------------------------------------


def _device(session: Session, settings: Interface) -> str:
    """The device of the interface's network: the daemon's word, else what netifd and netlink say."""
    from connbal.track import client, report

    daemon = client.status(session.run_dir)
    if daemon is not None and report.is_answer(daemon):
        tracker = daemon["interfaces"].get(settings.name)
        if tracker and tracker["device"]:
            return str(tracker["device"])
    config = session.decoded().config
    with session.machine() as machine:
        network = machine.facts(config, lambda *_: {}).network(settings.name, settings.family)
    return (network.device if network else None) or ""


def _address(device: str, family: Family) -> str:
    """The first global address of a device; empty: it has none."""
    from connbal.model.config import Family

    return _address4(device) if family is Family.IPV4 else _address6(device)


def _address4(device: str) -> str:
    import fcntl
    import socket
    import struct

    request = struct.pack("16s16x", device.encode()[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            answer = fcntl.ioctl(asked, 0x8915, request)  # SIOCGIFADDR
        except OSError:
            return ""
    return socket.inet_ntoa(answer[20:24])


def _address6(device: str) -> str:
    """From ``/proc/net/if_inet6``: address, index, prefix length, scope (0: global), flags, device."""
    import ipaddress

    try:
        with open("/proc/net/if_inet6", encoding="ascii") as stream:
            rows = [line.split() for line in stream]
    except OSError:
        return ""
    for row in rows:
        if len(row) == 6 and row[5] == device and row[3] == "00" and not int(row[4], 16) & _IFA_F_UNUSABLE:
            return str(ipaddress.IPv6Address(bytes.fromhex(row[0])))
    return ""
