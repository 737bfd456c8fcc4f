"""The man page, made from what ``--help`` prints: ``python -m connbal.cli.manpage > connbal.1``.

In the macros of man(7), for groff and mandoc. Nothing but this module knows of them.
"""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Iterator, Sequence

import click

from connbal import __version__

#: Files that a user may meet, and what they are.
FILES = {
    "/etc/config/mwan3": "The configuration: rules, policies, members, interfaces. The file that mwan3 reads.",
    "/etc/config/network": "Read where no netifd can be asked, for the devices of interfaces.",
    "/etc/mwan3.user": "Run by the daemon at each event, with ACTION, INTERFACE and DEVICE in its environment.",
    "/var/run/connbal/": "State until the next boot: what is in the kernel, what is forced, the daemon's socket.",
    "/var/run/mwan3track/INTERFACE/": "What the daemon knows of each interface, in files as mwan3 has them.",
    "/tmp/.uci/mwan3": "Staged changes: made by uci set or --stage, not committed, without effect.",
}
#: Variables that connbal reads, and what they are for.
ENVIRONMENT = {
    "CONNBAL_CONFIG_DIR": "Directory of the UCI files, as --config-dir.",
    "CONNBAL_RUN_DIR": "Directory of the state, as --run-dir.",
    "CONNBAL_STAGE_DIR": "Directory of staged changes, in place of /tmp/.uci.",
    "CONNBAL_IPTABLES": "nft or legacy: which build of iptables to use; else what iptables-restore leads to.",
    "CONNBAL_UCI": "embedded or libuci: what reads and writes the files; else libuci where its Python binding is.",
    "NO_COLOR": "If set, nothing is coloured.",
}
EXIT_CODES = {
    "0": "Done.",
    "1": "It failed, and nothing is half done; or check has found an error.",
    "2": "The command line makes no sense.",
}
#: Bytes in a line of source that mandoc takes without complaint.
SOURCE_WIDTH = 80
#: Characters that roff would take for something else, or that would be printed as another one.
_ESCAPES = {"\\": "\\e", "-": "\\-", "^": "\\(ha", "~": "\\(ti", "'": "\\(aq", "`": "\\(ga", '"': "\\(dq"}


def escaped(text: str) -> str:
    """One line of text that roff prints as it is."""
    found = "".join(_ESCAPES.get(char) or (char if char.isascii() else f"\\[u{ord(char):04X}]") for char in text)
    return f"\\&{found}" if found.startswith(".") else found


def page(root: click.Command, date: str) -> str:
    """The whole page. ``date``: of the program, ``YYYY-MM-DD``."""
    context = click.Context(root, info_name="connbal", **root.context_settings)
    lines = [
        f".TH CONNBAL 1 {date} {_quoted(f'connbal {__version__}')} {_quoted('User Commands')}",
        ".SH NAME", f"connbal \\- {escaped(_summary(root))}",
        ".SH SYNOPSIS", f"{_bold('connbal')} {escaped('[OPTIONS] COMMAND [ARGS]...')}",
        ".SH DESCRIPTION", *_description(root),
        ".SH OPTIONS", *_options(root, context),
        ".SH COMMANDS", "Each command also takes " + _bold("--help") + ".",
    ]  # fmt: skip
    for below, command in commands(root, context):
        lines += [f".SS {_quoted(_usage(below, command))}", *_description(command), *_options(command, below)]
    for title, entries in (("FILES", FILES), ("ENVIRONMENT", ENVIRONMENT), ("EXIT STATUS", EXIT_CODES)):
        lines += [f".SH {_quoted(title)}", *(line for entry in entries.items() for line in _entry(*entry))]
    lines += [".SH SEE ALSO", ", ".join((_bold("uci") + "(1)", _bold("ip\\-rule") + "(8)", _bold("iptables") + "(8)"))]
    return "\n".join(lines) + "\n"


def commands(group: click.Command, context: click.Context) -> Iterator[tuple[click.Context, click.Command]]:
    """Every command below a group, in order, with its context; those that are hidden left out."""
    if not isinstance(group, click.Group):
        return
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None and not command.hidden:
            below = click.Context(command, info_name=name, parent=context)
            yield below, command
            yield from commands(command, below)


def _usage(context: click.Context, command: click.Command) -> str:
    return " ".join([context.command_path, *command.collect_usage_pieces(context)])


def _summary(command: click.Command) -> str:
    first = inspect.cleandoc(command.help or "").split("\n\n")[0].replace("\n", " ")
    return first[:1].lower() + first[1:].removesuffix(".")


def _description(command: click.Command) -> Iterator[str]:
    """The help text: paragraphs, and blocks (that begin with ``\\b``) as they stand."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    for number, paragraph in enumerate(paragraphs):
        lines = paragraph.splitlines()
        if number:
            yield ".PP"
        if lines and lines[0].strip() == "\b":
            yield from _block(lines[1:])
        else:
            yield from _filled(paragraph)


def _filled(text: str) -> Iterator[str]:
    """A paragraph as lines of source: a new one for each sentence, and none too long."""
    line = ""
    for word in text.split():
        shown = escaped(word)
        if line and (len(line) + 1 + len(shown) > SOURCE_WIDTH or line.endswith((".", ":", "?"))):
            yield line
            line = ""
        line = f"{line} {shown}" if line else shown
    if line:
        yield line


def _block(lines: Sequence[str]) -> Iterator[str]:
    """A title, and lines that are indented below it and kept as they are."""
    yield ".nf"
    for line in lines:
        yield from _unbroken(escaped(line) if line.strip() else "\\&")
    yield ".fi"


def _unbroken(line: str) -> Iterator[str]:
    """A line that is kept as it stands: where it is too long, roff puts it together again."""
    while len(line) > SOURCE_WIDTH:
        cut = line.rindex(" ", 0, SOURCE_WIDTH) + 1 if " " in line[1:SOURCE_WIDTH] else len(line)
        if not line[:cut].strip() or cut == len(line):
            break
        yield f"{line[:cut]}\\"
        line = line[cut:]
    yield line


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        if not isinstance(parameter, click.Option) or (context.parent and "--help" in parameter.opts):
            continue
        record = parameter.get_help_record(context)
        if record is not None:
            yield from _entry(*record)


def _entry(term: str, text: str) -> Iterator[str]:
    yield ".TP"
    yield _bold(escaped(term))
    yield from _filled(text)


def _bold(text: str) -> str:
    return f"\\fB{text}\\fR"


def _quoted(text: str) -> str:
    """One argument of a macro."""
    return f'"{escaped(text)}"'


def _date() -> str:
    """Today, or what SOURCE_DATE_EPOCH says, so that a package can be built twice alike."""
    return time.strftime("%Y-%m-%d", time.gmtime(float(os.environ.get("SOURCE_DATE_EPOCH") or time.time())))


if __name__ == "__main__":
    from connbal.cli.main import cli

    click.echo(page(cli, _date()), nl=False)
