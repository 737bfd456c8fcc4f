"""The targets by name, and the inputs that are kept for each."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.structure import Change

HERE = Path(__file__).parent
TARGETS = tuple(sorted(path.stem for path in (HERE / "targets").glob("*.py") if path.stem != "__init__"))


@dataclass(frozen=True)
class Target:
    """One target. ``tokens``: words that its inputs are made of, for a fuzzer that does not know the language."""

    name: str
    check: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    tokens: tuple[bytes, ...]
    longest: int  #: bytes of an input
    mutate: Change | None = None  #: changes that keep the form of an input

    def inputs(self) -> list[bytes]:
        """Everything that is kept for it, and what its seeds are made of."""
        kept = [path.read_bytes() for path in sorted(corpus(self.name).glob("*"))]
        return list(dict.fromkeys([b"", *kept, *self.seeds()]))


def corpus(name: str) -> Path:
    """Where inputs of a target are kept: those to begin with, and those that once found something."""
    return HERE / "corpus" / name


def load(name: str) -> Target:
    """A target by its name, or by that of any module that is like one."""
    module = importlib.import_module(name if "." in name else f"tests.fuzz.targets.{name}")
    seeds = getattr(module, "seeds", lambda: ())
    return Target(name, module.check, seeds, getattr(module, "TOKENS", ()), getattr(module, "LONGEST", 2048),
                  getattr(module, "mutate", None))  # fmt: skip
