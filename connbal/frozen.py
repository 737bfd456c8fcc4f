"""Dataclasses that cost little to define, frozen ones above all: for whatever commands and the daemon import.

``dataclasses`` writes and compiles half a dozen methods for each class. That is half a millisecond on a PC and 20 on a
small router, before a command has done anything, and 8 kB for as long as the daemon runs. Here all classes have the
same methods. Fields, defaults, ``replace``, ``asdict``, comparison, hash and text are those of a dataclass; fields with
options of their own, such as ``compare=False``, there are none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:
    import dataclasses
    from operator import attrgetter

    _set = object.__setattr__

    def dataclass(cls=None, /, *, frozen=False, order=False):
        """As ``dataclasses.dataclass``, with ``frozen`` and ``order`` or without."""

        def define(cls):
            made = dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
            fields = dataclasses.fields(made)
            assert all(one.init and one.repr and one.compare and not one.kw_only for one in fields)
            made._form = _form(fields, hasattr(cls, "__post_init__"))
            made._content = _content(tuple(one.name for one in fields))
            for name, method in {**_COMMON, **(_FROZEN if frozen else _OPEN), **(_ORDER if order else {})}.items():
                if name not in cls.__dict__:
                    setattr(made, name, method)
            return made

        return define if cls is None else define(cls)

    def _form(fields, post_init):
        """What making an object goes by: names; defaults, MISSING where there is none; from where on each field has
        one that need not be made; what makes others; whether something follows.
        """
        missing = dataclasses.MISSING
        defaults = tuple(one.default for one in fields)
        plain = next((number for number in range(len(fields), 0, -1) if defaults[number - 1] is missing), 0)
        makers = {one.name: one.default_factory for one in fields if one.default_factory is not missing}
        return tuple(one.name for one in fields), defaults, plain, makers, post_init

    def _content(names):
        """Gets the fields of an object, as something that can be compared."""
        return attrgetter(*names) if names else staticmethod(lambda _: ())  # a function would be taken for a method

    def __init__(self, *args, **given):
        names, defaults, plain, _, post_init = self._form
        if given or not plain <= len(args) <= len(names):
            values = _values(type(self), args, given)
        else:
            values = args + defaults[len(args) :]
        # One after the other, in the order of the class: objects then share their keys, and take half the memory.
        for name, value in zip(names, values, strict=True):
            _set(self, name, value)
        if post_init:
            self.__post_init__()

    def _values(cls, args, given):
        """The fields of an object that is made from these arguments, in their order. Takes what is given."""
        names, defaults, _, makers, _ = cls._form
        values = [*args]
        for number in range(len(args), len(names)):
            name = names[number]
            if name in given:
                values.append(given.pop(name))
            elif name in makers:
                values.append(makers[name]())
            elif defaults[number] is dataclasses.MISSING:
                raise TypeError(f"{cls.__name__} needs {name}")
            else:
                values.append(defaults[number])
        if given or len(values) > len(names):
            raise TypeError(f"{cls.__name__} takes {', '.join(names)}, each once")
        return values

    def __repr__(self):
        names = self._form[0]
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    def __eq__(self, other):
        if other.__class__ is not self.__class__:
            return NotImplemented
        content = self._content
        return content(self) == content(other)

    def __hash__(self):
        return hash(self._content(self))

    def __setattr__(self, name, value):
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name):
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    def __lt__(self, other):
        return self._content(self) < other._content(other) if other.__class__ is self.__class__ else NotImplemented

    def __le__(self, other):
        return self._content(self) <= other._content(other) if other.__class__ is self.__class__ else NotImplemented

    def __gt__(self, other):
        return self._content(self) > other._content(other) if other.__class__ is self.__class__ else NotImplemented

    def __ge__(self, other):
        return self._content(self) >= other._content(other) if other.__class__ is self.__class__ else NotImplemented

    _COMMON = {"__init__": __init__, "__repr__": __repr__, "__eq__": __eq__}
    _FROZEN = {"__hash__": __hash__, "__setattr__": __setattr__, "__delattr__": __delattr__}
    _OPEN = {"__hash__": None}
    _ORDER = {"__lt__": __lt__, "__le__": __le__, "__gt__": __gt__, "__ge__": __ge__}
