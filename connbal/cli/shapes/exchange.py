"""What ``connbal export`` prints and ``connbal import`` reads."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from connbal.cli.shapes.common import FORM


class Section(TypedDict):
    """A section of the configuration."""

    type: Annotated[str, "the word after `config`"]
    name: Annotated[str | None, "null: it has no name"]
    options: Annotated[dict[str, str | list[str]], "a string, or an array where the file says `list`"]


class Export(TypedDict):
    """The whole configuration, also what `import` reads."""

    schema: Annotated[Literal["export/1"], FORM]
    package: Annotated[Literal["mwan3"], "UCI package"]
    sections: Annotated[list[Section], "all of them, of whatever type, in the order of the file"]
