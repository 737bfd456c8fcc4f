"""Frozen dataclasses that cost little to define, for modules that short commands import.

``dataclasses`` writes and compiles half a dozen methods for each class, half a millisecond on a PC and 20 on a small
router, before a command has done anything. Here all classes share their methods. They are slower to call, which does
not matter where there are thousands of calls and not millions. Fields, defaults, ``replace``, ``asdict``, comparison,
hash and text are those of a dataclass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:
    import dataclasses
    from operator import attrgetter

    def dataclass(*, frozen, order=False):
        """As ``dataclasses.dataclass(frozen=True)``, with ``order`` or without."""
        assert frozen

        def define(cls):
            made = dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
            fields = dataclasses.fields(made)
            names = tuple(one.name for one in fields)
            methods = _methods(names, fields, getattr(cls, "__post_init__", None))
            if order:
                methods.update(_order(names))
            for name, method in methods.items():
                method.__qualname__ = f"{cls.__qualname__}.{name}"
                setattr(made, name, method)
            return made

        return define

    def _methods(names, fields, post_init):
        known = frozenset(names)
        missing = dataclasses.MISSING
        defaults = {one.name: one.default for one in fields if one.default is not missing}
        factories = [(one.name, one.default_factory) for one in fields if one.default_factory is not missing]
        content = _content(names)

        def __init__(self, *args, **given):
            if len(args) > len(names) or not given.keys() <= known or not given.keys().isdisjoint(names[: len(args)]):
                raise TypeError(f"{type(self).__name__} takes {', '.join(names)}, each once")
            values = self.__dict__
            values.update(defaults)
            values.update(zip(names, args, strict=False))
            values.update(given)
            if len(values) < len(names):
                for name, factory in factories:
                    if name not in values:
                        values[name] = factory()
                if len(values) < len(names):
                    raise TypeError(f"{type(self).__name__} needs {', '.join(n for n in names if n not in values)}")
            if post_init is not None:
                post_init(self)

        def __repr__(self):
            return f"{type(self).__qualname__}({', '.join(f'{name}={self.__dict__[name]!r}' for name in names)})"

        def __eq__(self, other):
            return content(self) == content(other) if other.__class__ is self.__class__ else NotImplemented

        def __hash__(self):
            return hash(content(self))

        def __setattr__(self, name, value):
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

        def __delattr__(self, name):
            raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

        return {method.__name__: method for method in
                (__init__, __repr__, __eq__, __hash__, __setattr__, __delattr__)}  # fmt: skip

    def _order(names):
        content = _content(names)

        def __lt__(self, other):
            return content(self) < content(other) if other.__class__ is self.__class__ else NotImplemented

        def __le__(self, other):
            return content(self) <= content(other) if other.__class__ is self.__class__ else NotImplemented

        def __gt__(self, other):
            return content(self) > content(other) if other.__class__ is self.__class__ else NotImplemented

        def __ge__(self, other):
            return content(self) >= content(other) if other.__class__ is self.__class__ else NotImplemented

        return {method.__name__: method for method in (__lt__, __le__, __gt__, __ge__)}

    def _content(names):
        """The fields of an object as a tuple."""
        if len(names) > 1:
            return attrgetter(*names)
        return lambda self: tuple(self.__dict__[name] for name in names)
