"""From a typed question to an answer that shows its own definition: plan, ask, shape."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from twintrack.auth import Principal, permission_key
from twintrack.clock import Clock, instant, iso
from twintrack.event import Tenancy
from twintrack.permissions import Permission, hidden_from
from twintrack.query.cache import Cache, Kept
from twintrack.query.cohort import named
from twintrack.query.compile.statement import Parameters, Plan, Statement, table
from twintrack.query.execute import Executor
from twintrack.query.limits import limits_of
from twintrack.query.period import Range
from twintrack.query.question import Question, RangedQuestion
from twintrack.query.scope import Scope, refused
from twintrack.query.sealed import NOTHING, Sealed
from twintrack.query.seen import Seen

# What an answer says where it reads from before the time from which on raw is whole.
_EXPIRED = {
    "raw": " Events before {0} have expired: of that time, and of all that is asked of ever, only what is left counts, and a"
    " number of which nothing is left is null.",
    "rollup": " Events before {0} have expired and are still counted here, also those of people erased since then.",
}
# Of a list that is asked for as a file: a page is one read, and held in memory once.
_FILE_PAGE = 10_000


class Answers:
    """Shape: `cohorts` gives what an environment keeps by name; `kept` answers stay in memory while they are true;
    `complete_since` gives the time, by project, from which on raw has lost nothing to a policy; `forms` of a tenancy gives
    every form in which an identifier may be stored there, for who sees people."""

    def __init__(
        self,
        executor: Executor,
        clock: Clock,
        cohorts: Callable[[Tenancy], Mapping[str, Any]],
        kept: int = 0,
        complete_since: Callable[[], Mapping[str, int]] = dict,
        sealed: Sealed = NOTHING,
        forms: Callable[[Tenancy], Callable[[str], list[str]]] | None = None,
    ) -> None:
        self._forms = forms
        self._complete_since, self._sealed = complete_since, sealed
        self._executor, self._clock, self._cohorts, self._kept = executor, clock, cohorts, kept
        self._cache, self._seen = Cache(kept), Seen(executor)

    async def ask(self, question: Question, principal: Principal) -> dict[str, Any]:
        """The answer, its definition in words, its SQL, when it was read and what it cost.

        Raises: RequestError for what cannot be asked, StoreError with the engine's words or the limit met.
        """
        return await self._answer(question, principal, await self.scope(principal), shown=True)

    async def pages(self, question: Question, principal: Principal) -> AsyncIterator[dict[str, Any]]:
        """The answer for a file: of a list without a `limit` all of its pages, of anything else the one answer.

        A list ends where it was begun: what happens while it is read is not in, so that nobody moves from a page that is to
        come to one that was. Further pages hold `columns` and `rows` alone. What is sealed stays so.
        Raises: as `ask`; RequestError where the list is longer than a file may be.
        """
        scope = await self.scope(principal)
        if not {"limit", "after"} <= type(question).model_fields.keys() or "limit" in question.model_fields_set:
            yield await self._answer(question, principal, scope)
            return
        most = self._executor.most_file_rows
        changed: dict[str, Any] = {"limit": min(_FILE_PAGE, most, self._executor.most_rows - 1)}
        if isinstance(question, RangedQuestion):
            of = question.period(scope)
            until = iso(max(of.start + 1, min(of.end, scope.now_milliseconds)))
            changed["range"] = Range.model_validate({"from": iso(of.start), "to": until})
        whole, beside = question.for_file(), dict[str, list[Any]]()
        page = await self._answer(whole.model_copy(update=changed), principal, scope, beside=beside)
        following, count = page["next"], len(page["rows"])
        page |= {"next": None, "limits": []}
        while True:
            if following is not None and count >= most:
                raise refused(
                    f"the list is longer than {most:,} rows (query_file_rows)",
                    "ask for a shorter range",
                    "too_many_rows",
                )
            yield page
            if following is None:
                return
            further = whole.model_copy(update={**changed, "after": following})
            answer = await self._answer(further, principal, scope, beside=beside)
            following, count = answer["next"], count + len(answer["rows"])
            page = {"columns": answer["columns"], "rows": answer["rows"]}

    async def _answer(
        self,
        question: Question,
        principal: Principal,
        scope: Scope,
        *,
        shown: bool = False,
        beside: dict[str, list[Any]] | None = None,
    ) -> dict[str, Any]:
        """`beside` is given for a page of a file, of which nothing is kept: what is not of the page alone is asked once."""
        started = time.perf_counter()
        # On a thread: a question may be long, and events come in on the loop's.
        plan = await asyncio.to_thread(question.plan, question.in_its_zone(scope))
        await self._seen.check(question, scope, principal.key_id)
        # Who is of a cohort may change with events of any time, whatever the question itself reads.
        reads = None if '"cohort":' in question.model_dump_json() else plan.reads
        version = await self._executor.version(_months(reads)) if self._kept and beside is None else ""
        rows, rows_read, cached, asked = {}, 0, True, []
        for name, statement in plan.statements.items():
            if beside is not None and name in beside:
                rows[name] = beside[name]
                continue
            answer, known = await self._read(
                statement, version, principal, partial(self._executor.run, asker=principal.key_id)
            )
            rows[name] = answer.rows
            if beside is not None and name != "main":
                beside[name] = answer.rows
            rows_read += 0 if known else answer.rows_read
            cached = cached and known
            asked.append({"name": name, "sql": statement.sql, "parameters": statement.parameters})
        shaped = plan.shape(rows)
        complete = scope.complete_milliseconds
        expired = iso(complete) if (0 if reads is None else reads[0]) < complete else None
        return {
            **(await self._sealed.shown(shaped, principal) if shown else shaped),
            "limits": limits_of(question, shaped),
            "definition": plan.definition
            + _meanings(plan)
            + (_EXPIRED[plan.source].format(expired) if expired else ""),
            "statements": asked,
            "as_of": iso(scope.now_milliseconds),
            "rows_read": rows_read,
            "milliseconds": round((time.perf_counter() - started) * 1000, 1),
            "source": plan.source,
            "complete_from": expired,
            "cached": cached,
        }

    async def _read(
        self, statement: Statement, version: str, principal: Principal, run: Callable[..., Awaitable[dict[str, Any]]]
    ) -> tuple[Kept, bool]:
        async def ask() -> Kept:
            answer = await run(statement.sql, statement.parameters)
            return Kept(answer["rows"], answer["rows_read"])

        values = json.dumps(statement.parameters, sort_keys=True)
        return await self._cache.get((statement.sql, values, permission_key(principal)), version, ask)

    async def scope(self, principal: Principal) -> Scope:
        """What the question depends on beside itself."""
        now = self._clock.milliseconds()
        kept = await asyncio.to_thread(self._cohorts, principal.tenancy)
        complete = await asyncio.to_thread(self._complete_since)
        first = await self._beginning(principal)
        since = complete.get(principal.tenancy.project, 0)
        scope = Scope(principal.tenancy, principal.role, now, first, named(kept), since, self._sealed.fields)
        if self._forms is None or Permission.CLAIMS in hidden_from(principal.role):
            return scope
        return scope._replace(forms=await asyncio.to_thread(self._forms, principal.tenancy))

    async def _beginning(self, principal: Principal) -> int | None:
        """The hour of the project's first event, milliseconds since 1970; None before any."""
        p = Parameters(principal.tenancy)
        asked = p.statement(
            f"SELECT count() = 0, toUnixTimestamp(min(hour)) * 1000 FROM {table('events_hourly')} WHERE {p.tenancy}"
        )
        version = await self._executor.version([]) if self._kept else ""
        ((none, first),) = (await self._read(asked, version, principal, self._executor.aside))[0].rows
        return None if none else int(first)


def _meanings(plan: Plan) -> str:
    """What each cohort means that the answer was made with, those among them that others are made of."""
    told = {name: said for statement in plan.statements.values() for name, said in statement.meanings.items()}
    return "".join(f" The cohort {name}: {said}." for name, said in told.items())


def _months(reads: tuple[int, int] | None) -> list[int]:
    """The months of a stretch of time, UTC, as the table of events is parted."""
    if reads is None:
        return []
    first, last = instant(reads[0]), instant(reads[1])
    months = range(first.year * 12 + first.month - 1, last.year * 12 + last.month)
    return [month // 12 * 100 + month % 12 + 1 for month in months]
