"""Faster shape checks: jaxtyping's import hook decorates every function, this says with what.

What is checked stays: beartype holds arguments and results to their annotations, and axes of one name within one call
to one size. jaxtyping's own decorator binds the arguments of every call anew and checks them twice, also where no
array is in the signature, which made the suite several times as slow as the code that it tests. Within one test the
first calls of a function are all checked, and of thousands more every fiftieth: a loop over a corpus takes the same
path again and again.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, get_args

import jaxtyping
from beartype import BeartypeConf, beartype

__all__ = ["begin_test", "install"]

ALL_OF = 100  # calls of one function in one test
THEN_EVERY = 50

_jaxtyped: Any = jaxtyping.jaxtyped
# An int is a float where one is annotated, as type checkers have it (PEP 484).
_typed = beartype(conf=BeartypeConf(violation_type=jaxtyping.TypeCheckError, is_pep484_tower=True))
_one_call: Any = _jaxtyped("context")  # where axes of one name have one size
_test = 0  # number of the test that runs


def install() -> None:
    """Put `checked` in the place of the decorator that the import hook writes; before what it checks is imported."""
    jaxtyping.jaxtyped = checked


def begin_test() -> None:
    """Every function is checked from its first call on again."""
    global _test
    _test += 1


def checked(given: Any = None, **options: Any) -> Any:
    """As `jaxtyping.jaxtyped(typechecker=beartype.beartype)`, for what the import hook decorates."""
    if given is None:
        return partial(checked, **options)
    if inspect.isclass(given):
        if dataclasses.is_dataclass(given) and "__init__" in vars(given):
            own: Any = given
            own.__init__ = checked(own.__init__, **options)
        return given
    if not inspect.isfunction(given) or inspect.isgeneratorfunction(given):
        return _jaxtyped(given, **options)
    if hasattr(given, "__wrapped__"):  # an __init__ that was written by hand
        return given
    hints = _hints(given)
    function = _with_hints(given, hints)
    return _in_one_call(function, given) if any(map(_names_array, hints.values())) else function


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Annotations as objects; Any for one that is known to type checkers only, or not yet."""
    found = {}
    for name, annotation in function.__annotations__.items():
        try:
            found[name] = eval(annotation, function.__globals__) if isinstance(annotation, str) else annotation
        except Exception:
            found[name] = Any
    return found


def _with_hints(function: Callable[..., Any], hints: dict[str, Any]) -> Any:
    written = function.__annotations__
    function.__annotations__ = hints
    try:
        typed: Any = _typed(function)
    finally:
        function.__annotations__ = written
    typed.__annotations__ = written
    return typed


def _in_one_call(function: Any, unchecked: Any) -> Any:
    test, n_calls = 0, 0

    @wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        __tracebackhide__ = True
        nonlocal test, n_calls
        test, n_calls = (test, n_calls + 1) if test == _test else (_test, 1)
        if n_calls > ALL_OF and n_calls % THEN_EVERY:
            return unchecked(*args, **options)
        with _one_call:
            return function(*args, **options)

    return call


def _names_array(hint: Any) -> bool:
    """True where a hint is an array's, or holds one."""
    if inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(map(_names_array, get_args(hint)))
