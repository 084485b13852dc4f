"""People: a search over them, and the timeline of one, with the anonymous past joined."""

from typing import Any, Self

from pydantic import Field, PrivateAttr

from twintrack.query import cursor, words
from twintrack.query.catalog import check_sees_people
from twintrack.query.compile.events import SHOWN, page, paged
from twintrack.query.compile.statement import Parameters, Plan, table
from twintrack.query.filters import condition
from twintrack.query.floor import check_no_floor
from twintrack.query.question import RangedQuestion
from twintrack.query.scope import Scope
from twintrack.query.source import events


class Users(RangedQuestion):
    """People with what they did in the range; with `person`, the timeline of one."""

    search: str = Field("", max_length=200, description="Part of a person's id, or of an id that led to them.")
    person: str = Field("", max_length=500, description="Whose timeline; newest first.")
    limit: int = Field(100, ge=1, le=1_000)
    after: str = Field("", max_length=800, description="`next` of the page before.")
    _by_person: bool = PrivateAttr(default=False)

    def for_file(self) -> Self:
        """By person: a late event moves a last one, and no name. Who signs in meanwhile may be missed, or come twice."""
        copy = self.model_copy()
        copy._by_person = not self.person
        return copy

    def plan(self, scope: Scope) -> Plan:
        check_sees_people(scope.role)
        check_no_floor(self.floor)
        period = self.period(scope)
        p = Parameters(scope.tenancy)
        where = self._where(scope, p)
        if self.person:
            definition = (
                f"Events of one person, the anonymous past joined, newest first; {words.conditions(self, period)}."
            )
            ids = p.statement(
                "SELECT arraySort(groupUniqArrayIf(anonymous_id, anonymous_id != '')), count(),"
                " toUnixTimestamp64Milli(min(event_timestamp)), toUnixTimestamp64Milli(max(event_timestamp)),"
                " uniqExactIf(session_id, session_id != '')"
                f" FROM ({events(p, ['anonymous_id', 'session_id', 'event_timestamp'], where)})"
            )
            rows = page(list(SHOWN), where, self.after, self.limit, scope, p, by_person=True)
            return Plan({"main": rows, "summary": ids}, definition, self._timeline, reads=(period.start, period.end))
        after, order = "", "person" if self._by_person else "last DESC, person DESC"
        if self.after and self._by_person:
            (person,) = cursor.read(self.after, str)
            after = f"HAVING person > {p.text(person)}"
        elif self.after:
            last, person = cursor.read(self.after, int, str)
            after = f"HAVING (last, person) < ({p.whole(last)}, {p.text(person)})"
        # First who is on the page, by their last events alone; then their numbers.
        times = events(p, ["event_timestamp"], where)
        shown = (
            f"SELECT person FROM (SELECT person, toUnixTimestamp64Milli(max(event_timestamp)) AS last FROM ({times})"
            f" GROUP BY person {after} ORDER BY {order} LIMIT {self.limit + 1})"
        )
        read = events(p, ["event_timestamp", "session_id", "user_id"], where)
        main = p.statement(
            "SELECT person, toUnixTimestamp64Milli(min(event_timestamp)) AS first,"
            " toUnixTimestamp64Milli(max(event_timestamp)) AS last, count() AS events,"
            " uniqExactIf(session_id, session_id != '') AS sessions, countIf(user_id != '') > 0 AS signed_in"
            f" FROM ({read}) WHERE person IN ({shown}) GROUP BY person"
            f" ORDER BY {order} LIMIT {self.limit + 1}"
        )
        by = "themselves" if self._by_person else "their last event, the latest first"
        definition = f"People by {by}; {words.conditions(self, period)}."
        return Plan({"main": main}, definition, self._people, reads=(period.start, period.end))

    def actors(self, scope: Scope, p: Parameters, point: Any) -> str:
        return f"SELECT DISTINCT person FROM ({events(p, [], self._where(scope, p))})"

    def _where(self, scope: Scope, p: Parameters) -> list[str]:
        where = [self.period(scope).within(p), condition(self.filter, scope, p)]
        if self.person:
            return where + one(p, scope.stored([self.person]))
        return [*where, "person != ''", *([found(p, self.search, scope.stored([self.search]))] if self.search else [])]

    def _people(self, rows: Any) -> dict[str, Any]:
        found = rows["main"]
        further, shown = len(found) > self.limit, found[: self.limit]
        at = (shown[-1][0],) if self._by_person and shown else (shown[-1][2], shown[-1][0]) if shown else ()
        names = ["person", "first_milliseconds", "last_milliseconds", "events", "sessions", "signed_in"]
        return {
            "columns": names,
            "rows": [[*row[:5], bool(row[5])] for row in shown],
            "next": cursor.made(*at) if further else None,
        }

    def _timeline(self, rows: Any) -> dict[str, Any]:
        ((ids, count, first, last, sessions),) = rows["summary"]
        summary = {"anonymous_ids": ids, "events": count, "sessions": sessions}
        if count:
            summary |= {"first_milliseconds": first, "last_milliseconds": last}
        return {"person": self.person, "summary": summary, **paged(list(SHOWN), rows["main"], self.limit)}


def one(p: Parameters, forms: list[str]) -> list[str]:
    """Conditions of one person's events, by every form of their id; the first lets the engine's indexes find them."""
    who = p.texts(forms)
    anonymous = f"SELECT anonymous_id FROM {table('identities')} WHERE {p.tenancy} AND user_id IN {who}"
    return [f"(user_id IN {who} OR anonymous_id IN {who} OR anonymous_id IN ({anonymous}))", f"person IN {who}"]


def found(p: Parameters, search: str, forms: list[str]) -> str:
    """The condition that `person` is one whom a search means, by their own id or by one that was ever linked to them.

    Of people, not of rows: all that somebody did counts, whichever id it was done under.
    """
    part, whole = p.text(search), p.texts(forms)
    linked = (
        f"SELECT user_id FROM {table('identities')} WHERE {p.tenancy}"
        f" AND (positionCaseInsensitiveUTF8(anonymous_id, {part}) > 0 OR anonymous_id IN {whole})"
    )
    return f"(positionCaseInsensitiveUTF8(person, {part}) > 0 OR person IN {whole} OR person IN ({linked}))"
