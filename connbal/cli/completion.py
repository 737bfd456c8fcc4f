"""``connbal completion``: scripts with which shells complete commands, options, choices and names of sections.

The scripts are made from the commands themselves. All they know is baked in; names of sections they read out of the
configuration with awk. No Python runs when Tab is pressed, which would take seconds on a small router. The same
functions, in the language that all of these shells share, find out what may follow; a few lines for each shell hand it
on.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script with which SHELL completes commands, options, values and names of sections.

    The packages for OpenWrt install those for bash and zsh. The ash of busybox cannot complete words of commands.

    \b
    Examples:
      connbal completion bash
      connbal completion zsh
    """
    click.echo(script(shell), nl=False)


def script(shell: str) -> str:
    """The script for a shell: ``bash``, ``zsh`` or ``fish``."""
    from connbal.cli.main import cli

    if shell == "fish":
        from click.shell_completion import get_completion_class

        found = get_completion_class("fish")
        assert found is not None
        return found(cli, {}, "connbal", "_CONNBAL_COMPLETE").source()
    return _text(shell).replace("@ENGINE@\n", _text("engine").replace("@FACTS@\n", facts(cli)))


def _text(name: str) -> str:
    return importlib.resources.files("connbal").joinpath(f"completion/{name}.sh").read_text("utf-8")


# --- what the scripts know ----------------------------------------------------------------------------------------


def facts(root: click.Command) -> str:
    """The branches of a ``case`` over the words of a command: what may follow each."""
    lines: list[str] = []
    for path, command in walk(root):
        groups = list(command.list_commands(click.Context(command))) if isinstance(command, click.Group) else []
        options = [word for one in command.get_params(click.Context(command)) for word in _option(one)]
        arguments = [_argument(one) for one in command.params if isinstance(one, click.Argument)]
        lines.append(f"    '{path}')")
        for name, words in (("subs", groups), ("opts", options), ("args", arguments)):
            if words:
                lines.append(f"        _connbal_{name}='{' '.join(words)}'")
        lines[-1] += " ;;"
    return "".join(f"{line}\n" for line in lines)


def walk(command: click.Command, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command with the words that lead to it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from walk(below, f"{path} {name}".lstrip())


def _option(parameter: click.Parameter) -> list[str]:
    """The names of an option; with ``=`` and what its value may be, where it takes one."""
    if not isinstance(parameter, click.Option) or parameter.hidden:
        return []
    names = [name for name in (*parameter.opts, *parameter.secondary_opts) if name.startswith("--")]
    if parameter.is_flag or parameter.count:
        return names
    return [f"{name}={_values(parameter)}" for name in names]


def _argument(parameter: click.Argument) -> str:
    """What an argument may be; ``+`` at the end: any number of them."""
    return f"{_values(parameter) or '-'}{'+' if parameter.nargs == -1 else ''}"


def _values(parameter: click.Parameter) -> str:
    """Words with commas between them; ``%file``, ``%dir``, or ``%PACKAGE.TYPE`` for names of sections."""
    from connbal.cli.complete import Sections

    # click keeps what was given as shell_complete here, in all versions since 8.0.
    given = getattr(parameter, "_custom_shell_complete", None)
    if isinstance(given, Sections):
        return ",".join([f"%{given.package}.{given.type}", *given.words])
    if isinstance(parameter.type, click.Choice):
        return ",".join(map(str, parameter.type.choices))
    if isinstance(parameter.type, click.Path):
        directory = parameter.name is not None and parameter.name.endswith("_dir")
        return "%dir" if directory else "%file"
    return ""
