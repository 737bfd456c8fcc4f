"""What a shell can complete: names of sections, for click's own completion and for the scripts made from it.

A parameter that takes the name of a section says so: ``shell_complete=complete.sections("rule")``. Imports nothing that
takes time: every command with such a parameter imports this.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem


class Sections:
    """Completes names of sections of one type; called by click.

    package: UCI package that has them. words: what else may stand there.
    """

    def __init__(self, type_: str, package: str, words: tuple[str, ...]) -> None:
        self.type, self.package, self.words = type_, package, words

    def __call__(
        self, context: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem] | list[str]:
        directory = context.find_root().params.get("config_dir") or "/etc/config"
        names = [*references(os.path.join(directory, self.package), self.type), *self.words]
        return [name for name in names if name.startswith(incomplete)]


def sections(type_: str, *words: str, package: str = "mwan3") -> Any:
    """For ``shell_complete``: the sections of a type, and further words."""
    return Sections(type_, package, words)


def references(path: str, type_: str) -> list[str]:
    """Names of the sections of a type in a file, ``@type[0]`` for those without; none where it cannot be read."""
    from connbal.errors import ConfigError
    from connbal.uci.text import parse

    try:
        with open(path, "rb") as stream:
            found = parse(stream.read(), "any").of_type(type_)
    except (OSError, ConfigError):
        return []
    return [f"@{type_}[{place}]" if one.anonymous else one.name for place, one in enumerate(found)]
