"""The nouns: ``connbal rule``, ``policy``, ``member``, ``interface``, ``globals``. Each has its verbs by name only, so
that listing does not wait for the options of adding.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping

import click

#: Verb -> module below connbal.cli, one-line help. The module makes the command from the verb and the section type.
_LOOK = {
    "list": ("listing", "Show all of them in a table."),
    "show": ("listing", "Show every option of one."),
}
_EDIT = {
    "add": ("verbs", "Add one."),
    "set": ("verbs", "Change options of one."),
    "delete": ("verbs", "Delete one."),
    "rename": ("verbs", "Give one another name."),
}
_SWITCH = {
    "enable": ("verbs", "Set option enabled to 1."),
    "disable": ("verbs", "Set option enabled to 0."),
}
_MOVE = {"move": ("verbs", "Move one to another place.")}
_FORCE = {"force": ("interface", "Treat an interface as up or down.")}


class Noun(click.Group):
    """The commands for one section type, each made when it is called."""

    def __init__(self, type_: str, verbs: Mapping[str, tuple[str, str]], help_: str) -> None:
        super().__init__(type_, help=help_)
        self._type, self._verbs = type_, verbs

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._verbs:
            return None
        module = importlib.import_module(f"connbal.cli.{self._verbs[cmd_name][0]}")
        if cmd_name in _FORCE:
            command = module.force
        else:
            command = module.command(self._type, cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self._verbs.items()])


interface = Noun(
    "interface",
    {**_LOOK, **_EDIT, **_SWITCH, **_FORCE},
    """Sources of Internet, each named as its network, and how to find out whether they work.

    \b
    Examples:
      connbal interface list
      connbal interface enable wan1
      connbal interface set wan1 --track-ip 1.1.1.1 --track-ip 9.9.9.9
      connbal interface force wan1 down
    """,
)

member = Noun(
    "member",
    {**_LOOK, **_EDIT},
    """Members: an interface with a priority (metric) and a share (weight), for policies to use.

    \b
    Examples:
      connbal member list
      connbal member add TV_Internet --interface wan2
    """,
)

policy = Noun(
    "policy",
    {**_LOOK, **_EDIT},
    """Policies: the members that a rule may use.

    \b
    Examples:
      connbal policy list
      connbal policy add TV_Policy --use-member TV_Internet
    """,
)

rule = Noun(
    "rule",
    {**_LOOK, **_EDIT, **_MOVE, **_SWITCH},
    """Rules: which connections use which policy. They are tried from top to bottom; the first that matches decides.

    A rule without a name is meant by its place: @rule[0] is the first, @rule[-1] the last.

    \b
    Examples:
      connbal rule list
      connbal rule add SmartTV --src-ip 192.168.1.178 --use-policy TV_Policy
      connbal rule move SmartTV --first
    """,
)

globals = Noun(
    "globals",
    {"show": ("listing", "Show every option."), "set": ("verbs", "Change options.")},
    """Settings for all of it.

    \b
    Examples:
      connbal globals show
      connbal globals set --weight-mode inverse --affinity pair
    """,
)
