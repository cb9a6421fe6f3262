"""A generator that works on while others look at what it has yielded."""

from __future__ import annotations

import threading

import pytest

from mpl.ahead import ahead


def test_items_come_in_order_and_are_made_before_they_are_asked_for() -> None:
    third = threading.Event()

    def numbers():
        for i in range(6):
            if i == 2:
                third.set()
            yield i

    made = ahead(numbers(), room=2)
    assert next(made) == 0
    assert third.wait(10)  # while nobody asks
    assert list(made) == [1, 2, 3, 4, 5]


def test_no_more_are_made_than_there_is_room_for() -> None:
    seen: list[int] = []

    def numbers():
        for i in range(100):
            seen.append(i)
            yield i

    made = ahead(numbers(), room=3)
    next(made)
    made.close()
    assert len(seen) <= 1 + 3 + 2  # one that was looked at, those that wait, one in hand, one being made


def test_closing_closes_the_generator_in_its_own_thread() -> None:
    ended: list[str] = []

    def numbers():
        try:
            while True:
                yield 1
        finally:
            ended.append(threading.current_thread().name)

    made = ahead(numbers())
    next(made)
    made.close()
    assert ended == ["mpl-ahead"]


def test_what_it_raises_is_raised_where_it_is_looked_at() -> None:
    def numbers():
        yield 1
        raise RuntimeError("no more")

    made = ahead(numbers())
    assert next(made) == 1
    with pytest.raises(RuntimeError, match="no more"):
        next(made)
