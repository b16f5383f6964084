"""A burst of requests or events leaves turns of the event loop to everything else."""

from __future__ import annotations

import asyncio

from loraloom.serving.configuration import ModelConfiguration
from loraloom.serving.model_process import EVENTS_A_TURN, ModelProcess
from loraloom.serving.open_request import Answering
from loraloom.web.openai_api.loop_turns import Turns

MANY = 40


async def _turns_until(done: asyncio.Future[None]) -> int:
    """Count turns of the loop; what comes in between two of them is looked for in each."""
    number = 0
    while not done.done():
        await asyncio.sleep(0)
        number += 1
    return number


def test_one_goes_on_in_a_turn_in_the_order_in_which_they_came() -> None:
    async def burst() -> tuple[list[int], int]:
        turns, order = Turns(), list[int]()

        async def begin(number: int) -> None:
            await turns.wait()
            order.append(number)

        tasks = asyncio.gather(*(begin(number) for number in range(MANY)))
        return order, await _turns_until(tasks)

    order, num_turns = asyncio.run(burst())
    assert order == list(range(MANY))
    assert num_turns >= MANY


def test_a_task_that_is_cancelled_keeps_no_other_waiting() -> None:
    async def burst() -> list[int]:
        turns, order = Turns(), list[int]()

        async def begin(number: int) -> None:
            await turns.wait()
            order.append(number)

        tasks = [asyncio.create_task(begin(number)) for number in range(4)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return order

    assert asyncio.run(burst()) == [1, 3]


def test_events_of_one_step_are_passed_on_in_several_turns_and_none_is_lost() -> None:
    async def deliver() -> tuple[list[int], int]:
        model = ModelProcess(ModelConfiguration(run=None), max_waiting=MANY)
        open_ones: list[Answering] = [model._open() for _ in range(MANY)]
        for answering in open_ones:
            answering.num_open = 1
        events = [{"id": answering.id, "text": "a", "reason": "stop"} for answering in open_ones]
        delivery = asyncio.ensure_future(model._deliver({"events": events, "figures": {"rows": 3}}))
        num_turns = await _turns_until(delivery)
        assert model.num_under_way == 0
        assert model.figures["rows"] == 3
        return [(await answering.next())["id"] for answering in open_ones], num_turns

    ids, num_turns = asyncio.run(deliver())
    assert ids == list(range(1, MANY + 1))
    assert num_turns >= MANY // EVENTS_A_TURN
