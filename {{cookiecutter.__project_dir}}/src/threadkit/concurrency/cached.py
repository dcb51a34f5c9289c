"""`@cached`: a function whose answers are kept, keyed on its bound arguments.

@cached(ttl=30, stale_ttl=300, max_entries=10_000)
def related_to(item_id: int) -> list[Item]: ...

related_to(7)                # loads once, however many threads ask
related_to(item_id=7)        # the same entry
related_to.invalidate(7)     # here and in every other worker
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from .cache import Cache
from .shared_tier import Codec

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")


class CachedFunction(Generic[P, R]):
    """What `@cached` makes: call it as the function; `invalidate` takes the same arguments.

    The key is the tuple of bound arguments with defaults applied, so positional and keyword calls
    meet; they must be hashable. On a method the instance is part of the key, which keeps it alive
    while its entries live and cannot be named to other workers (they then forget the whole
    cache); pass `key=lambda self, item_id: item_id` to leave it out. `cache` is the Cache, with
    its `clear()` and `stats()`; `__wrapped__` the function itself, which loads without the cache.
    Thread-safe, and a declaration only: nothing is started at import.
    """

    def __init__(
        self, fn: Callable[P, R], cache: Cache[Hashable, R], key: Callable[P, Hashable] | None
    ) -> None:
        functools.update_wrapper(self, fn)
        self._fn = fn
        self._key = key
        self._signature = inspect.signature(fn)
        parameters = self._signature.parameters.values()
        plain = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
        # The common call, every parameter given by position, is its own key.
        self._arity = len(parameters) if all(p.kind in plain for p in parameters) else -1
        self.cache = cache

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        key = self._key_of(args, kwargs)
        return self.cache.get_or_load(key, partial(self._fn, *args, **kwargs))

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Forget the answer for these arguments, in every worker."""
        self.cache.invalidate(self._key_of(args, kwargs))

    def _key_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
        if self._key is not None:
            return self._key(*args, **kwargs)
        if not kwargs and len(args) == self._arity:
            return args
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return tuple(
            frozenset(value.items()) if self._is_keywords(name) else value
            for name, value in bound.arguments.items()
        )

    def _is_keywords(self, name: str) -> bool:
        return self._signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD

    @overload
    def __get__(self, instance: None, owner: type) -> CachedFunction[P, R]: ...
    @overload
    def __get__(
        self: CachedFunction[Concatenate[Any, Q], R], instance: object, owner: type | None = None
    ) -> BoundCachedFunction[Q, R]: ...
    def __get__(self, instance: object | None, owner: type | None = None) -> Any:
        return self if instance is None else BoundCachedFunction(self, instance)

    def __repr__(self) -> str:
        return f"<cached {self._fn.__module__}.{self._fn.__qualname__} {self.cache!r}>"


class BoundCachedFunction(Generic[P, R]):
    """A cached method together with its instance."""

    def __init__(self, function: CachedFunction[Any, R], instance: object) -> None:
        self._function = function
        self._instance = instance

    @property
    def cache(self) -> Cache[Hashable, R]:
        """The method's cache, which all instances share."""
        return self._function.cache

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._function(self._instance, *args, **kwargs)

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Forget the answer for this instance and these arguments, in every worker."""
        self._function.invalidate(self._instance, *args, **kwargs)

    def __repr__(self) -> str:
        return f"<bound {self._function!r} of {self._instance!r}>"


@overload
def cached(fn: Callable[P, R], /) -> CachedFunction[P, R]: ...
@overload
def cached(
    *,
    max_entries: int = ...,
    ttl: float | None = ...,
    stale_ttl: float = ...,
    key: Callable[..., Hashable] | None = ...,
    name: str | None = ...,
    jitter: float = ...,
    stale_if_error: float = ...,
    negative_ttl: float | None = ...,
    negative_on: tuple[type[Exception], ...] = ...,
    time_limit: float | None = ...,
    codec: Codec[Any] | None = ...,
) -> Callable[[Callable[P, R]], CachedFunction[P, R]]: ...
def cached(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    max_entries: int = 1024,
    key: Callable[..., Hashable] | None = None,
    name: str | None = None,
    **options: Any,
) -> Any:
    """Keep a function's answers; the options are those of `Cache`.

    `key` makes the key from the arguments. `name` is the cache's, and by default the function's
    full name, which is the same in every worker.
    """

    def decorate(function: Callable[..., Any]) -> CachedFunction[..., Any]:
        label = name or f"{function.__module__}.{function.__qualname__}"
        cache: Cache[Hashable, Any] = Cache(max_entries, name=label, **options)
        return CachedFunction(function, cache, key)

    return decorate if fn is None else decorate(fn)
