"""``connbal``: the group every command hangs from, and the one place where errors become messages and exit codes.

Exit codes: 0 done; 1 it failed, and nothing is half done; 2 the command line makes no sense. Each command's module is
imported when the command is called, so that listing rules does not wait for what only the kernel commands need.
"""

from __future__ import annotations

import gc
import importlib
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from connbal import __version__
from connbal.cli.context import Session
from connbal.cli.output import emit, failure
from connbal.errors import ConnbalError, UsageError, printable

#: Command -> module below connbal.cli that has a click command of the same name (with ``_`` for ``-``), one-line help.
COMMANDS = {
    "init": ("init", "Write the default configuration."),
    "check": ("check", "Check the configuration and say what is wrong with it."),
    "plan": ("plan", "Show what apply would change."),
    "apply": ("apply", "Bring the kernel to what the configuration says."),
    "confirm": ("confirm", "Keep a change that would go back by itself, or take it back."),
    "stop": ("stop", "End the daemon and take everything connbal made out of the kernel."),
    "status": ("status", "Show interfaces, policies and rules as they are now."),
    "explain": ("explain", "Say which way a connection would go, and why."),
    "diagnose": ("diagnose", "Say what is wrong with an interface."),
    "interface": ("sections", "Sources of Internet: list, show, change, force up or down."),
    "member": ("sections", "Members: an interface with a metric and a weight."),
    "policy": ("sections", "Policies: the members that a rule may use."),
    "rule": ("sections", "Rules: which connections use which policy, in order."),
    "globals": ("sections", "Settings for all of it."),
    "ipset": ("ipset", "Sites by name: sets of addresses that dnsmasq fills."),
    "daemon": ("daemon", "Track the sources and keep the kernel as it should be."),
    "export": ("export", "Print the whole configuration as JSON."),
    "import": ("importing", "Make the configuration what such JSON says."),
    "completion": ("completion", "Print a script with which a shell completes commands."),
    "metrics": ("metrics", "Print metrics for Prometheus."),
    "events": ("events", "Show what the daemon has seen and done."),
    "doctor": ("doctor", "Take over from mwan3, clean up after it, or prepare the way back."),
    "setup": ("setup", "Set up a source for a device, failover, or a split."),
    "use": ("use", "Run a command whose packets leave by one interface."),
}
#: The same, for programs only.
HIDDEN = {"mwan3": "legacy"}


class Lazy(click.Group):
    """A group that knows its commands by name and imports each when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS and cmd_name not in HIDDEN:
            return None
        name = HIDDEN.get(cmd_name) or COMMANDS[cmd_name][0]
        if name != "sections":
            gc.enable()
        module = importlib.import_module(f"connbal.cli.{name}")
        command = getattr(module, "import_" if cmd_name == "import" else cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--config-dir", type=click.Path(), default="/etc/config", show_default=True,
              envvar="CONNBAL_CONFIG_DIR", show_envvar=True, help="Where UCI keeps its files.")  # fmt: skip
@click.option("--run-dir", type=click.Path(), default="/var/run", show_default=True,
              envvar="CONNBAL_RUN_DIR", show_envvar=True, help="Where state is kept until the next boot.")  # fmt: skip
@click.version_option(__version__, prog_name="connbal")
@click.pass_context
def cli(ctx: click.Context, config_dir: str, run_dir: str) -> None:
    """Choose, for each connection, which Internet source it uses.

    Rules choose a policy, a policy has members, a member is an interface with a metric and a weight. All of them are
    in /etc/config/mwan3. Exit codes: 0 done, 1 it failed, 2 the command line makes no sense.

    \b
    Examples:
      connbal init            write a configuration to start from
      connbal setup failover wan wwan
                              use one source, and the other while it is down
      connbal check           is it right?
      connbal plan            what would change?
      connbal apply           change it
      connbal daemon          keep it so: probe the sources, follow every change
      connbal status          how things are now
    """
    ctx.obj = Session(config_dir, run_dir)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the ``connbal`` program."""
    gc.disable()  # what a short command makes is gone with it; Lazy turns it on for the others
    try:
        _run(sys.argv[1:] if argv is None else argv)
    finally:
        gc.enable()


def _run(words: Sequence[str]) -> None:
    """Run a command line and exit with its code."""
    try:
        # Outside standalone mode click returns the code of ctx.exit() rather than exiting.
        colour = False if os.environ.get("NO_COLOR") else None  # None: where there is a terminal
        code = cli.main(args=list(words), prog_name="connbal", standalone_mode=False, color=colour)
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        error = _with_nearest(error)
        error.show()
        _fail(words, UsageError(error.format_message()), error.exit_code)
    except click.exceptions.Abort:
        click.echo("connbal: interrupted", err=True)
        sys.exit(1)
    except UsageError as error:
        click.echo(printable(f"connbal: {error}"), err=True)
        _fail(words, error, 2)
    except ConnbalError as error:
        refused = any(word in str(error) for word in ("Operation not permitted", "Permission denied"))
        hint = "; run it as root" if refused and os.geteuid() != 0 else ""
        click.echo(printable(f"connbal: {error}{hint}"), err=True)
        _fail(words, error, 1)


def _fail(words: Sequence[str], error: ConnbalError, code: int) -> NoReturn:
    """End with an exit code. Who asked for JSON gets the error as a document, too, on standard output.

    It is one line, so that it can be told from the documents that came before it where there are several.
    """
    if "--json" in words[: words.index("--")] if "--" in words else "--json" in words:
        emit("error", failure(error), line=True)
    sys.exit(code)


def _with_nearest(error: click.ClickException) -> click.ClickException:
    """The error with the command that an unknown one was probably meant to be, where click does not say it."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    found = re.match(r"No such command '(.+)'", error.message)
    if context is None or found is None or "Did you mean" in error.format_message():
        return error
    import difflib

    known = context.command.list_commands(context) if isinstance(context.command, click.Group) else []
    near = difflib.get_close_matches(found[1], known, 1)
    return click.UsageError(f"{error.message} Did you mean {near[0]!r}?", context) if near else error


if __name__ == "__main__":
    main()
