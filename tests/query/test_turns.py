"""Askers take turns; a question whose asker has gone ends in the engine."""

import asyncio
from typing import Any

import pytest

from tests.query.conftest import Asked
from tests.query.stage import ASKER
from twintrack.errors import TooMany
from twintrack.query.turns import Turns


def test_one_who_asks_much_waits_for_himself_and_not_others_for_him() -> None:
    order: list[str] = []

    async def scene() -> None:
        turns, everybody_waits = Turns(1, 50), asyncio.Event()

        async def ask(asker: str) -> None:
            async with turns.turn(asker):
                order.append(asker)
                await everybody_waits.wait()

        asked = [asyncio.ensure_future(ask(asker)) for asker in (*["greedy"] * 5, "modest", "other")]
        await asyncio.sleep(0)
        everybody_waits.set()
        await asyncio.gather(*asked)

    asyncio.run(scene())
    assert order == ["greedy", "greedy", "modest", "other", "greedy", "greedy", "greedy"]


def test_no_more_run_at_once_than_may_and_a_place_given_up_is_no_turn_lost() -> None:
    async def scene() -> None:
        turns, running, most = Turns(2, 50), 0, 0

        async def ask(asker: str) -> None:
            nonlocal running, most
            async with turns.turn(asker):
                running += 1
                most = max(most, running)
                try:
                    await asyncio.sleep(0)
                finally:
                    running -= 1

        tasks = [asyncio.ensure_future(ask(f"asker-{n % 3}")) for n in range(30)]
        await asyncio.sleep(0)
        for task in tasks[::4]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert most == 2
        await asyncio.wait_for(asyncio.gather(ask("a"), ask("b"), ask("c")), 5)

    asyncio.run(scene())


def test_asker_with_too_many_waiting_questions_is_told_to_come_again() -> None:
    async def scene() -> None:
        turns = Turns(1, 2)
        held = asyncio.Event()

        async def ask(asker: str) -> None:
            async with turns.turn(asker):
                await held.wait()

        tasks = [asyncio.ensure_future(ask("greedy")) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(TooMany):
            await ask("greedy")
        modest = asyncio.ensure_future(ask("modest"))
        held.set()
        await asyncio.gather(*tasks, modest)

    asyncio.run(scene())


ENDLESS = "SELECT count() FROM system.numbers WHERE number % 7 = 3"


def running(of: Any) -> list[str]:
    sql = "SELECT query FROM system.processes WHERE query LIKE '%system.numbers%' AND query NOT LIKE '%processes%'"
    return [row[0] for row in of.select(sql).rows]


async def until(seen: Any, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(seen):
            await asyncio.sleep(0.02)


def test_question_that_is_given_up_ends_in_the_engine_and_frees_its_turn(made: Asked) -> None:
    store, executor = made.stage.store, made.stage.executor

    async def scene() -> None:
        asked = [asyncio.ensure_future(executor.run(ENDLESS, None, "one")) for _ in range(3)]
        await until(lambda: len(running(store)) == 2)
        for question in asked:
            question.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        assert await asyncio.to_thread(running, store) == []
        assert (await executor.run("SELECT 1"))["rows"] == [[1]]

    asyncio.run(scene())


def test_question_alone_has_two_threads_and_one_beside_another_has_one(made: Asked) -> None:
    store, executor = made.stage.store, made.stage.executor
    plan = "EXPLAIN PIPELINE SELECT count() FROM numbers_mt(100000000) GROUP BY number % 7"

    async def scene() -> None:
        async def threads() -> int:
            return 2 if "\u00d7 2" in str((await executor.run(plan, None, "two"))["rows"]) else 1

        assert await threads() == 2
        endless = asyncio.ensure_future(executor.run(ENDLESS, None, "one"))
        await until(lambda: len(running(store)) == 1)
        assert await threads() == 1
        endless.cancel()
        await asyncio.gather(endless, return_exceptions=True)
        assert await threads() == 2

    asyncio.run(scene())


def test_what_each_question_looks_up_first_waits_for_no_heavy_one(made: Asked) -> None:
    executor, answers = made.stage.executor, made.stage.answers

    async def scene() -> None:
        asked = [asyncio.ensure_future(executor.run(ENDLESS, None, "one")) for _ in range(2)]
        await until(lambda: len(running(made.stage.store)) == 2)
        scope = await asyncio.wait_for(answers.scope(ASKER), 20)
        assert scope.first_milliseconds is not None and not any(question.done() for question in asked)
        for question in asked:
            question.cancel()
        await asyncio.gather(*asked, return_exceptions=True)

    asyncio.run(scene())
