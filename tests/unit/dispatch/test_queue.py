"""The queue of a stage: earliest deadline first, exactly what waits, nothing kept of what is gone."""

from __future__ import annotations

import gc
import math
import random
import weakref

from hypothesis import given
from hypothesis import strategies as st

from triscale.dispatch.queue import DeadlineQueue
from triscale.dispatch.work import Item, Request


class Payload:
    """Something that can be watched being freed."""


def request(serial: int, deadline: float) -> Request:
    return Request(serial, serial, 0.0, deadline, 1, None)


def items(of: Request, count: int = 1) -> list[Item]:
    return [Item(of, 0, None, None, index, 0, 1.0, 0.0) for index in range(count)]


def drained(queue: DeadlineQueue) -> list[tuple[int, int]]:
    """(request, index) of everything in the queue, in order."""
    taken = []
    while len(queue):
        item = queue.at(0)
        queue.take(0, 1)
        taken.append((item.request.id, item.index))
    return taken


def test_the_earliest_deadline_comes_first_and_ties_go_to_who_arrived_first() -> None:
    queue = DeadlineQueue()
    late, early, tied = request(1, 3.0), request(2, 1.0), request(3, 3.0)
    for each in (tied, late, early):
        queue.push(items(each), each.key)
    assert queue.head_key() == (1.0, 2)
    assert queue.last_deadline() == 3.0
    assert drained(queue) == [(2, 0), (1, 0), (3, 0)]
    assert queue.head_key() is None


def test_items_of_a_request_stand_together_in_the_order_they_were_pushed() -> None:
    queue = DeadlineQueue()
    first, second = request(1, 5.0), request(2, 5.0)
    queue.push(items(first, 2), first.key)
    queue.push(items(second, 1), second.key)
    queue.push(items(first, 2), first.key)
    assert drained(queue) == [(1, 0), (1, 1), (1, 0), (1, 1), (2, 0)]


def test_a_request_is_withdrawn_from_wherever_it_stands() -> None:
    queue = DeadlineQueue()
    requests = [request(serial, float(serial)) for serial in range(1, 6)]
    for each in requests:
        queue.push(items(each, 2), each.key)
    for gone in (requests[2], requests[0], requests[4]):
        queue.withdraw(gone.key)
    queue.withdraw(requests[2].key)  # a second time: nothing is left to withdraw
    assert drained(queue) == [(2, 0), (2, 1), (4, 0), (4, 1)]


def test_the_first_item_with_enough_slack_is_found() -> None:
    queue = DeadlineQueue()
    for serial in (1, 2, 3):
        each = request(serial, serial * 1.0)
        queue.push(items(each), each.key)
    assert [queue.position(deadline) for deadline in (0.5, 1.0, 1.5, 3.0, 9.0)] == [0, 0, 1, 2, 3]
    queue.take(0, 1)
    assert queue.position(2.0) == 0, "positions count from the head"


def test_items_taken_from_the_middle_leave_the_rest_in_order() -> None:
    queue = DeadlineQueue()
    for serial in range(1, 6):
        each = request(serial, float(serial))
        queue.push(items(each), each.key)
    assert [item.request.id for item in queue.slice(1, 2)] == [2, 3]
    queue.take(1, 2)
    assert drained(queue) == [(1, 0), (4, 0), (5, 0)]


def test_at_most_a_few_items_are_kept_alive_after_they_were_taken() -> None:
    queue = DeadlineQueue()
    watched = []
    for serial in range(1000):
        each = request(serial, float(serial))
        item = Item(each, 0, Payload(), None, 0, 0, 1.0, 0.0)
        watched.append(weakref.ref(item.payload))
        queue.push([item], each.key)
    last = queue.at(999)
    del each, item
    queue.take(0, 500)
    queue.take(0, 499)
    gc.collect()
    assert sum(ref() is not None for ref in watched) <= 33
    assert queue.at(0) is last


@given(st.integers(0, 2**32))
def test_it_behaves_as_a_sorted_list_of_what_was_pushed_and_not_yet_taken(seed: int) -> None:
    rng = random.Random(seed)
    queue = DeadlineQueue()
    model: list[tuple[float, int]] = []
    requests = [request(serial, float(rng.randint(1, 5))) for serial in range(8)]
    for _ in range(60):
        each = rng.choice(requests)
        action = rng.random()
        if action < 0.5:
            count = rng.choice((1, rng.randint(1, 40)))
            if count == 1:
                queue.push_one(items(each, 1)[0], each.key)
            else:
                queue.push(items(each, count), each.key)
            model = sorted([*model, *[each.key] * count])
        elif action < 0.7:
            queue.withdraw(each.key)
            model = [key for key in model if key != each.key]
        elif model:
            position = rng.randrange(len(model)) if rng.random() < 0.3 else 0
            count = rng.randint(1, len(model) - position)
            assert [item.request.key for item in queue.slice(position, count)] == model[position : position + count]
            queue.take(position, count)
            del model[position : position + count]
        assert len(queue) == len(model)
        assert queue.head_key() == (model[0] if model else None)
        assert queue.due == (model[0][0] if model else math.inf)
    assert [queue.at(position).request.key for position in range(len(queue))] == model
