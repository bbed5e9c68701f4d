"""Ways through the Task SDK that come to the same result with less work.

A task of a Dag file of 200 tasks builds all 200 operators again, and half of that is finding out what was found out a
moment ago. Each shortcut stands for one method of Airflow 3.3.2, known by the fingerprint of its source: where another
one is found, because of a patch of the team's or a build of its own, it stays as it is.
"""

import functools
import hashlib
import inspect
import linecache
import sys
import types
from collections.abc import Callable

from airflow.sdk.bases import decorator
from airflow.sdk.bases.operator import BaseOperator
from airflow.sdk.definitions import dag
from airflow.sdk.definitions.param import ParamsDict


class _ConverterNames(dict):
    """Attribute names to those of their converters. Interned, because Python remembers lookups of such names only."""

    def __missing__(self, key: str) -> str:
        name = self[key] = sys.intern(f"_convert_{key}")
        return name


class _Setters(dict):
    """Classes to what `super().__setattr__` means in BaseOperator for objects of them."""

    def __missing__(self, kind: type) -> Callable[[object, str, object], None]:
        above = kind.__mro__[kind.__mro__.index(BaseOperator) + 1 :]
        first = next(each for each in above if "__setattr__" in vars(each))
        setter = self[kind] = vars(first)["__setattr__"]
        return setter


_converter_names = _ConverterNames()
_setters = _Setters()


def set_attribute(self: BaseOperator, key: str, value: object) -> None:
    """BaseOperator.__setattr__, called some 75 times per operator."""
    convert = getattr(self, _converter_names[key], None)
    if convert:
        value = convert(value)
    _setters[type(self)](self, key, value)
    if self._BaseOperator__from_mapped or self._lock_for_execution:
        return
    given = self._BaseOperator__init_kwargs
    if key in given:
        given[key] = value
    if self._BaseOperator__instantiated and key in self.template_fields:
        self._set_xcomargs_dependency(key, value)


def hash_dag(self: dag.DAG) -> int:
    """DAG.__hash__, called twice per dependency: reads each attribute once."""
    parts: list[object] = [type(self)]
    for name in dag._DAG_HASH_ATTRS:
        value = getattr(self, name, None)
        if isinstance(value, list):
            value = tuple(value)
        try:
            hash(value)
        except TypeError:
            value = repr(value)
        parts.append(value)
    return hash(tuple(parts))


_copy_params = ParamsDict.__deepcopy__


def copy_params(self: ParamsDict, memo: dict | None) -> ParamsDict:
    """ParamsDict.__deepcopy__, called up to five times per operator, nearly always of none."""
    if self._ParamsDict__dict:
        return _copy_params(self, memo)
    return ParamsDict(None, self.suppress_exception)


class _Signatures:
    """`inspect.signature` that remembers its last answer about a plain function: TaskFlow asks five times per task."""

    def __init__(self) -> None:
        # One tuple, so that threads see all of it or nothing: function, code, defaults, the two kinds of names, answer.
        self.last: tuple = (None, None, None, {}, {}, None)

    def __call__(self, obj: object, **options: object) -> inspect.Signature:
        if options or type(obj) is not types.FunctionType or obj.__dict__:
            return inspect.signature(obj, **options)
        by_name, annotations = obj.__kwdefaults__ or {}, obj.__annotations__
        function, code, defaults, same_by_name, same_annotations, answer = self.last
        if (
            obj is function
            and obj.__code__ is code
            and obj.__defaults__ is defaults
            and _same(by_name, same_by_name)
            and _same(annotations, same_annotations)
        ):
            return answer
        seen = obj, obj.__code__, obj.__defaults__, dict(by_name), dict(annotations)
        answer = inspect.signature(obj)
        self.last = *seen, answer
        return answer


def _is(one: object, other: object) -> bool:
    return one is other


def _same(one: dict, other: dict) -> bool:
    """Whether both have the very same things, in the same order; nothing of theirs is asked whether it is equal."""
    if not one and not other:
        return True
    return len(one) == len(other) and all(map(_is, one, other)) and all(map(_is, one.values(), other.values()))


SHORTCUTS = (
    (BaseOperator, "__setattr__", "4e41349eeab66275", set_attribute),
    (dag.DAG, "__hash__", "c0c04c517e88e2ad", hash_dag),
    (ParamsDict, "__deepcopy__", "e1dec32c75b63433", copy_params),
)


def fingerprint(function: object) -> str:
    """Of a function's own source, which is the same under every Python; empty where it has none."""
    code = getattr(function, "__code__", None)
    if code is None:
        return ""
    # Not `inspect.getsource`, which looks through a wrapper and asks all loaded modules for the one it stands in.
    lines = inspect.getblock(linecache.getlines(code.co_filename)[code.co_firstlineno - 1 :])
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def take() -> list[str]:
    """Takes every shortcut whose long way is the one known; gives the names of those left out."""
    left_out = []
    for owner, name, known, shortcut in SHORTCUTS:
        original = vars(owner).get(name)
        if fingerprint(original) == known:
            setattr(owner, name, functools.wraps(original)(shortcut))
        else:
            left_out.append(f"{owner.__name__}.{name}")
    linecache.clearcache()
    if decorator.inspect is inspect:
        # A module of its own: `inspect` itself stays what it is for everybody else.
        decorator.inspect = types.ModuleType("inspect", inspect.__doc__)
        decorator.inspect.__dict__.update(vars(inspect), signature=_Signatures())
    else:
        left_out.append("decorator.inspect")
    return left_out
