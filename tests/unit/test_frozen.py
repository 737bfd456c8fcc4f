"""Cheap frozen dataclasses behave as those of ``dataclasses``."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import field
from typing import Any

import pytest

from connbal import frozen


@frozen.dataclass(frozen=True, order=True)
class Cheap:
    """A value."""

    name: str
    size: int = 3
    words: tuple[str, ...] = ()
    more: tuple[int, ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(self.size)


@frozen.dataclass(frozen=True)
class One:
    """A value of one field."""

    name: str


@dataclasses.dataclass(frozen=True, order=True)
class Real:
    """The same."""

    name: str
    size: int = 3
    words: tuple[str, ...] = ()
    more: tuple[int, ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(self.size)


CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    (("a",), {}), (("a", 4), {}), (("a",), {"size": 5}), ((), {"name": "a", "words": ("x",), "more": (1,)}),
    ((), {}), (("a", 1, (), (), 5), {}), (("a",), {"name": "b"}), (("a",), {"colour": 1}), ((), {"size": 1}),
    (("a", -1), {}),
]  # fmt: skip


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return dataclasses.astuple(call())
    except (TypeError, ValueError) as error:
        return type(error)


@pytest.mark.parametrize(("args", "given"), CALLS)
def test_making_one(args: tuple[Any, ...], given: dict[str, Any]) -> None:
    assert outcome(lambda: Cheap(*args, **given)) == outcome(lambda: Real(*args, **given))


def test_comparing() -> None:
    assert Cheap("a") == Cheap("a", 3)
    assert Cheap("a") != Cheap("a", 4)
    assert Cheap("a") != Real("a")
    assert hash(Cheap("a")) == hash(Cheap("a", 3))
    assert len({Cheap("a"), Cheap("a"), Cheap("b")}) == 2
    assert Cheap("a", 1) < Cheap("a", 2) <= Cheap("a", 2) < Cheap("b", 0)
    assert Cheap("b") > Cheap("a") >= Cheap("a")
    assert One("a") == One("a") != One("b")
    with pytest.raises(TypeError):
        sorted([One("b"), One("a")])
    with pytest.raises(TypeError):
        assert Cheap("a") < Real("a")


def test_it_is_a_dataclass_and_frozen() -> None:
    made = Cheap("a", words=("x",))
    assert repr(made) == "Cheap(name='a', size=3, words=('x',), more=())"
    assert dataclasses.replace(made, size=4) == Cheap("a", 4, ("x",))
    assert [one.name for one in dataclasses.fields(made)] == ["name", "size", "words", "more"]
    assert dataclasses.asdict(made) == {"name": "a", "size": 3, "words": ("x",), "more": ()}
    assert copy.deepcopy(made) == made == pickle.loads(pickle.dumps(made))
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.size = 5
    with pytest.raises(dataclasses.FrozenInstanceError):
        del made.size
    assert made.size == 3


@frozen.dataclass(frozen=True)
class Nothing:
    """A value of no field."""


def test_a_value_without_fields_is_like_any_other() -> None:
    assert Nothing() == Nothing()
    assert Nothing() != One("a")
    assert len({Nothing(), Nothing()}) == 1
    assert repr(Nothing()) == "Nothing()"
