"""From a typed question to an answer that shows its own definition: plan, ask, shape."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from twintrack.auth import Principal
from twintrack.clock import Clock, iso
from twintrack.event import Tenancy
from twintrack.query.cohort import named
from twintrack.query.compile.statement import Parameters, table
from twintrack.query.execute import Executor
from twintrack.query.question import Question
from twintrack.query.scope import Scope


class Answers:
    """Shape: `cohorts` gives the definitions that an environment keeps, by name."""

    def __init__(self, executor: Executor, clock: Clock, cohorts: Callable[[Tenancy], Mapping[str, Any]]) -> None:
        self._executor, self._clock, self._cohorts = executor, clock, cohorts

    async def ask(self, question: Question, principal: Principal) -> dict[str, Any]:
        """The answer, its definition in words, its SQL, when it was read and what it cost.

        Raises: RequestError for what cannot be asked, StoreError with the engine's words or the limit met.
        """
        started = time.perf_counter()
        scope = await self.scope(principal)
        plan = question.plan(scope)
        rows, rows_read, asked = {}, 0, []
        for name, statement in plan.statements.items():
            answer = await self._executor.run(statement.sql, statement.parameters)
            rows[name] = answer["rows"]
            rows_read += answer["rows_read"]
            asked.append({"name": name, "sql": statement.sql, "parameters": statement.parameters})
        return {
            **plan.shape(rows),
            "definition": plan.definition,
            "statements": asked,
            "as_of": iso(scope.now_milliseconds),
            "rows_read": rows_read,
            "milliseconds": round((time.perf_counter() - started) * 1000, 1),
            "source": plan.source,
            "cached": False,
        }

    async def scope(self, principal: Principal) -> Scope:
        return Scope(
            principal.tenancy,
            principal.role,
            self._clock.milliseconds(),
            await self._beginning(principal.tenancy),
            named(await asyncio.to_thread(self._cohorts, principal.tenancy)),
        )

    async def _beginning(self, tenancy: Tenancy) -> int | None:
        """The hour of the project's first event, milliseconds since 1970; None before any."""
        p = Parameters(tenancy)
        asked = p.statement(
            f"SELECT count() = 0, toUnixTimestamp(min(hour)) * 1000 FROM {table('events_hourly')} WHERE {p.tenancy}"
        )
        ((none, first),) = (await self._executor.run(asked.sql, asked.parameters))["rows"]
        return None if none else int(first)
