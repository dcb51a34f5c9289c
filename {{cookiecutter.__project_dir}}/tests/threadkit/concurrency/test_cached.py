"""Claims about @cached: bound arguments, methods, invalidation by the same arguments."""

from __future__ import annotations

from typing import Any

import pytest

from threadkit.concurrency import CachedFunction, attach_invalidation_bus, cached

calls: list[Any] = []


@pytest.fixture(autouse=True)
def no_calls() -> None:
    calls.clear()


def test_positional_keyword_and_default_arguments_meet_in_one_key() -> None:
    @cached(ttl=30)
    def add(a: int, b: int = 2, *, c: int = 3) -> int:
        """Adds."""
        calls.append((a, b, c))
        return a + b + c

    assert add(1) == add(1, 2) == add(a=1, b=2) == add(b=2, a=1, c=3) == 6
    assert calls == [(1, 2, 3)]
    add.invalidate(a=1)
    assert add(1) == 6
    assert len(calls) == 2
    assert add.__wrapped__(1) == 6  # type: ignore[attr-defined]
    assert add.__doc__ == "Adds."
    assert add.__name__ == "add"  # type: ignore[attr-defined]


def test_variable_arguments_are_part_of_the_key_whatever_their_order() -> None:
    @cached
    def collect(*args: int, **kwargs: int) -> int:
        calls.append(1)
        return sum(args) + sum(kwargs.values())

    assert collect(1, 2, x=3, y=4) == collect(1, 2, y=4, x=3) == 10
    assert collect(1, 2, 7) == collect(2, 1, 7)
    assert len(calls) == 3


class Service:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    @cached(ttl=30)
    def times(self, number: int) -> int:
        calls.append(number)
        return number * self.factor

    @cached(key=lambda self, number: number)
    def shared(self, number: int) -> int:
        calls.append(number)
        return number

    @staticmethod
    @cached
    def static(number: int) -> int:
        calls.append(number)
        return number


def test_it_works_on_methods_with_the_instance_in_the_key() -> None:
    two, three = Service(2), Service(3)
    assert (two.times(5), three.times(5), two.times(number=5)) == (10, 15, 10)
    assert len(calls) == 2
    two.times.invalidate(5)
    assert (two.times(5), three.times(5)) == (10, 15)
    assert len(calls) == 3
    assert two.times.cache is Service.times.cache
    assert isinstance(Service.times, CachedFunction)


def test_key_leaves_the_instance_out() -> None:
    assert Service(1).shared(7) == Service(2).shared(7) == 7
    assert Service.static(7) == Service.static(7) == 7
    assert calls == [7, 7]


def test_invalidating_a_method_clears_it_in_the_other_workers() -> None:
    published: list[tuple[str, str | None]] = []

    class Bus:
        def publish(self, cache: str, key: str | None) -> None:
            published.append((cache, key))

        def subscribe(self, listener: Any) -> None: ...

    attach_invalidation_bus(Bus())
    Service(1).times.invalidate(5)
    Service(1).shared.invalidate(5)
    assert [key for _, key in published] == [None, '["i","5"]']
    assert published[0][0].endswith("Service.times")


def test_an_unhashable_argument_is_a_type_error() -> None:
    @cached
    def first(items: list[int]) -> int:
        return items[0]

    with pytest.raises(TypeError):
        first([1])


def test_repr_names_the_function_and_shows_the_cache() -> None:
    service = Service(1)
    assert "Service.times <Cache" in repr(Service.times)
    assert "<bound <cached" in repr(service.times)
