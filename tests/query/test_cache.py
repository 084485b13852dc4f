"""Answers are kept while they are true, shared while they are being made, and never beyond that."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.query.oracle.rows import generated
from tests.query.stage import ASKER, Stage, staged
from twintrack.auth import Role
from twintrack.query.answer import Answers
from twintrack.query.cache import Cache, Kept
from twintrack.query.kinds import KINDS

NOW = datetime(2024, 11, 3, 10, 17, 30, tzinfo=UTC)
ASKED = {"range": {"from": "2024-10-01", "to": "2024-10-31"}, "series": [{"measure": "persons"}]}
EARLIER = {"range": {"from": "2024-04-01", "to": "2024-04-30"}, "series": [{}]}


@pytest.fixture
def stage(tmp_path: Any) -> Iterator[Stage]:
    with staged(tmp_path / "store", NOW, generated(count=300)) as opened:
        opened.answers = Answers(opened.executor, opened.clock, lambda _: {}, 100)
        # So that no part changes by itself between two questions.
        opened.store.command("SYSTEM STOP MERGES")
        yield opened


def event(moment: datetime, number: int, user: str = "late") -> dict[str, Any]:
    from uuid import UUID

    return {
        "event_id": UUID(int=number),
        "event_name": "view",
        "event_timestamp": moment,
        "user_id": user,
        "anonymous_id": "",
        "session_id": "s",
        "event_metadata": {},
    }


def test_answer_is_kept_until_an_event_comes_and_late_events_appear(stage: Stage) -> None:
    first, again = stage.ask("trends", ASKED), stage.ask("trends", ASKED)
    assert (first["cached"], again["cached"]) == (False, True)
    assert first["rows_read"] > 0 and again["rows_read"] == 0
    assert again["series"] == first["series"]
    stage.insert([event(datetime(2024, 10, 2, tzinfo=UTC), 1)])
    late = stage.ask("trends", ASKED)
    assert not late["cached"]
    assert late["series"][0]["total"] == first["series"][0]["total"] + 1


def test_event_of_another_month_changes_no_kept_answer(stage: Stage) -> None:
    stage.ask("trends", EARLIER)
    stage.insert([event(datetime(2024, 10, 2, tzinfo=UTC), 2)])
    assert stage.ask("trends", EARLIER)["cached"]


def test_person_who_is_erased_counts_no_more_also_not_from_the_cache(stage: Stage) -> None:
    stage.insert([event(datetime(2024, 10, 2, tzinfo=UTC), 3)])
    before = stage.ask("trends", ASKED)["series"][0]["total"]
    assert stage.ask("trends", ASKED)["cached"]
    stage.store.command("SYSTEM START MERGES")  # a deletion is one of them
    stage.store.command("DELETE FROM analytics.events WHERE user_id = 'late' SETTINGS lightweight_deletes_sync = 1")
    after = stage.ask("trends", ASKED)
    assert not after["cached"] and after["series"][0]["total"] == before - 1
    point = {"of": {"kind": "trends", **ASKED}, "limit": 1000}
    assert "late" not in [row[0] for row in stage.ask("actors", point)["rows"]]


def test_answer_of_one_project_is_no_answer_for_another(stage: Stage) -> None:
    stage.ask("trends", ASKED)
    elsewhere = ASKER._replace(tenancy=ASKER.tenancy._replace(project="nobody's"))
    other = stage.ask("trends", ASKED, elsewhere)
    assert not other["cached"] and other["series"][0]["total"] == 0


@pytest.mark.parametrize("other", [{"key_id": "another"}, {"role": Role.ADMIN}], ids=["principal", "permissions"])
def test_answer_of_one_asker_is_no_answer_for_another_of_the_same_project(stage: Stage, other: dict[str, Any]) -> None:
    asker = ASKER._replace(role=Role.ANALYST)
    assert not stage.ask("trends", ASKED, asker)["cached"] and stage.ask("trends", ASKED, asker)["cached"]
    assert not stage.ask("trends", ASKED, asker._replace(**other))["cached"]


def test_same_question_of_many_at_once_is_asked_of_the_engine_once(stage: Stage) -> None:
    question = KINDS["trends"].model_validate(ASKED)

    async def all_at_once() -> list[dict[str, Any]]:
        return await asyncio.gather(*(stage.answers.ask(question, ASKER) for _ in range(20)))

    asked = stage.executor._metrics.queries.labels("ok")
    before = asked._value.get()
    answers = asyncio.run(all_at_once())
    assert len({str(answer["series"]) for answer in answers}) == 1
    # Reads of the engine that took a turn, as it counts them; the second question is another one.
    once = len(answers[0]["statements"])
    assert asked._value.get() - before == once
    stage.ask("trends", {**ASKED, "interval": "month"})
    assert asked._value.get() - before == 2 * once


def test_question_that_fails_is_asked_again_and_one_leaver_takes_nobody_along() -> None:
    async def scene() -> None:
        cache, asked = Cache(10), 0
        release = asyncio.Event()

        async def ask() -> Kept:
            nonlocal asked
            asked += 1
            await release.wait()
            if asked == 1:
                raise ValueError("the engine ended")
            return Kept([[asked]], 1)

        first = asyncio.ensure_future(cache.get("k", "1", ask))
        second = asyncio.ensure_future(cache.get("k", "1", ask))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        assert not second.done() and asked == 1
        release.set()
        with pytest.raises(ValueError):
            await second
        assert await cache.get("k", "1", ask) == (Kept([[2]], 1), False)
        assert await cache.get("k", "1", ask) == (Kept([[2]], 1), True)
        assert await cache.get("k", "2", ask) == (Kept([[3]], 1), False)

    asyncio.run(scene())


@pytest.mark.parametrize("versions", [["1", "2", "3", "4"], ["", "", "", ""]], ids=["embedded", "server"])
def test_who_asks_while_older_data_is_read_shares_the_next_reading(versions: list[str]) -> None:
    """Of many who ask the same while events come in, each gets an answer begun after they asked, from few readings."""

    async def scene() -> None:
        cache, begun, release = Cache(10), 0, [asyncio.Event(), asyncio.Event()]

        async def ask() -> Kept:
            nonlocal begun
            begun += 1
            number = begun
            await release[number - 1].wait()
            return Kept([[number]], 1)

        askers = [asyncio.ensure_future(cache.get("k", version, ask)) for version in versions[:1]]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        askers += [asyncio.ensure_future(cache.get("k", version, ask)) for version in versions[1:] for _ in range(5)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert begun == 1
        release[0].set()
        assert (await askers[0])[0].rows == [[1]]
        release[1].set()
        assert {answer[0].rows[0][0] for answer in await asyncio.gather(*askers[1:])} == {2} and begun == 2
        if versions[-1]:
            assert await cache.get("k", versions[-1], ask) == (Kept([[2]], 1), True)

    asyncio.run(scene())


def test_reading_that_fails_or_is_given_up_lets_the_next_one_begin() -> None:
    async def scene() -> None:
        cache, begun = Cache(10), 0

        async def ask() -> Kept:
            nonlocal begun
            begun += 1
            if begun == 1:
                await asyncio.Event().wait()
            if begun == 2:
                raise ValueError("the engine ended")
            return Kept([[begun]], 1)

        first = asyncio.ensure_future(cache.get("k", "1", ask))
        for _ in range(3):
            await asyncio.sleep(0)
        second = asyncio.ensure_future(cache.get("k", "2", ask))
        for _ in range(3):
            await asyncio.sleep(0)
        assert begun == 1
        first.cancel()
        with pytest.raises(ValueError):
            await asyncio.wait_for(second, 5)
        assert (await cache.get("k", "2", ask))[0].rows == [[3]] and not cache._readings

    asyncio.run(scene())


def test_work_nobody_waits_for_any_more_is_given_up() -> None:
    async def scene() -> None:
        cache, given_up = Cache(10), asyncio.Event()

        async def ask() -> Kept:
            try:
                await asyncio.Event().wait()
            finally:
                given_up.set()
            raise AssertionError

        alone = asyncio.ensure_future(cache.get("k", "1", ask))
        await asyncio.sleep(0)
        alone.cancel()
        await asyncio.wait_for(given_up.wait(), 5)

    asyncio.run(scene())


def test_cache_is_bounded_in_answers_and_large_ones_are_not_kept() -> None:
    async def scene() -> None:
        cache = Cache(3)

        async def ask(cells: int = 1) -> Kept:
            return Kept([[0] * cells], 1)

        for key in range(5):
            await cache.get(key, "1", ask)
        assert [(await cache.get(key, "1", ask))[1] for key in (4, 3, 2)] == [True, True, True]
        assert not (await cache.get(0, "1", ask))[1]
        await cache.get("large", "1", lambda: ask(300_000))
        assert not (await cache.get("large", "1", lambda: ask(300_000)))[1]

    asyncio.run(scene())
