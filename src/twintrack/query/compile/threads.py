"""Threads: conversations as wholes, with what became of each; and one of them, in order, in its masked words."""

from typing import Any

from pydantic import Field

from twintrack.clock import iso
from twintrack.query import period, words
from twintrack.query.catalog import PERSON, covered, hidden, property_of
from twintrack.query.compile.order import PLACE, moment, place_of, selected
from twintrack.query.compile.statement import Parameters, Plan, Statement
from twintrack.query.filters import asks_person, condition
from twintrack.query.floor import Floor, check_no_floor
from twintrack.query.period import Period, Unit
from twintrack.query.question import EventSelection, RangedQuestion, shown
from twintrack.query.scope import Scope, refused
from twintrack.query.source import events

OUTCOMES = ("created", "continued", "completed", "abandoned")
_SPREADS = ("seconds_to_answer", "messages_per_thread", "seconds_per_thread", "characters_per_message")
# Numbers of an answer beside its outcomes, and of which threads each is.
_COUNTED = {"messages": "messages > 0", "answers": "answers > 0", "waiting": "waiting"}
_MOST_IDLE_SECONDS = 366 * 86_400
_MOST_EVENTS = 5_000
# Set and not empty, said so that the index knows granules of which no row is in a thread.
_IN_A_THREAD = "thread_id > ''"
_COLUMNS = ("event_id", "at", "event_name", "role", "person", "message_content", "message_length")
_LISTED = ("thread_id", "person", "began", "last", "outcome", "messages", "answers", "waiting")


def _named(name: str) -> Any:
    return Field(default_factory=lambda: EventSelection.model_validate({"event": name}))


class Threads(RangedQuestion):
    """Conversations: how they end, how long an answer takes, how long they are; or one of them in order."""

    thread: str | None = Field(None, max_length=500, description="Only this one, event by event.")
    message: EventSelection = _named("message_sent")
    completed: EventSelection = _named("thread_completed")
    abandoned: EventSelection = _named("thread_abandoned")
    idle_seconds: int = Field(86_400, description="A thread that was quiet for longer is abandoned; up to 366 days.")
    interval: Unit | None = Field(None, description="Also the outcomes of each such bucket, by the first event.")
    limit: int = Field(50, ge=0, le=1_000, description="So many of the newest threads are listed.")

    def plan(self, scope: Scope) -> Plan:
        if not 1 <= self.idle_seconds <= _MOST_IDLE_SECONDS:
            raise refused(
                "a thread is idle after 1 second to 366 days",
                f"idle_seconds is 1 to {_MOST_IDLE_SECONDS}",
                "bad_threads",
            )
        return _plan(self, scope) if self.thread is None else _one(self, scope, self.thread)

    def actors(self, scope: Scope, p: Parameters, point: Any) -> str:
        """`outcome` is one of the four or the name of a number, without it all; `step` a place in `buckets`."""
        of = self.period(scope)
        where = ["person != ''"]
        if point.outcome is not None:
            if point.outcome not in (*OUTCOMES, *_COUNTED):
                raise refused(
                    "there is no such outcome", f"name one of {', '.join((*OUTCOMES, *_COUNTED))}", "no_actors"
                )
            where.append(_COUNTED.get(point.outcome) or f"outcome = {p.text(point.outcome)}")
        if point.step is not None:
            if self.interval is None:
                raise refused("the answer has no trend", "ask with an `interval`", "no_actors")
            found = period.buckets(of, self.interval, scope)
            bucket = found[place_of(point.step, len(found), "bucket")]
            where.append(f"began >= {p.whole(bucket.start)} AND began < {p.whole(bucket.end)}")
        return f"SELECT DISTINCT person FROM ({threads(self, scope, p, of)}) WHERE {' AND '.join(where)}"


def _kind(asked: Threads, scope: Scope, p: Parameters) -> str:
    """1 for a question, 2 for an answer, 0 for what is no message."""
    role = property_of("event_metadata.role", scope).text
    return f"if({selected(asked.message, scope, p)}, if(ifNull({role}, 'user') = 'user', 1, 2), 0)"


def threads(asked: Threads, scope: Scope, p: Parameters, of: Period) -> str:
    """A SELECT of the threads that began in the period: a row each, moments in milliseconds."""
    kept = [_IN_A_THREAD, condition(asked.filter, scope, p)]
    thread = "assumeNotNull(thread_id) AS thread"
    # Only a thread with an event in the range can begin there.
    there = events(p, [thread], [of.within(p), *kept], person=asks_person(asked.filter))
    rows = events(
        p,
        [
            thread,
            f"{PLACE} AS place",
            f"toUInt8({_kind(asked, scope, p)}) AS kind",
            f"{selected(asked.completed, scope, p)} AS done",
            f"{selected(asked.abandoned, scope, p)} AS gave_up",
            "message_length",
        ],
        [of.since(p), *kept],
    )
    # Of what lies before the range it matters only that it is there: such a thread has begun already.
    before = events(p, [thread], [of.before(p), *kept], person=asks_person(asked.filter))
    begun = (
        f"SELECT '' AS person, thread, toUInt256(0) AS place, 0 AS kind, 0 AS done, 0 AS gave_up, NULL FROM ({before})"
    )
    gathered = (
        f"SELECT thread, {moment('min(place)')} AS began, {moment('max(place)')} AS last,"
        " argMin(person, place) AS person, max(done) AS done,"
        " max(gave_up) AS gave_up, countIf(kind = 1) AS questions, countIf(kind = 2) AS answers,"
        " groupArrayIf(assumeNotNull(message_length), kind > 0 AND message_length IS NOT NULL) AS lengths,"
        " arraySort(groupArrayIf((place, kind), kind > 0)) AS said"
        f" FROM ({rows} UNION ALL {begun}) WHERE thread IN (SELECT thread FROM ({there})) GROUP BY thread"
        f" HAVING began >= {p.whole(of.start)} AND began < {p.whole(of.end)}"
    )
    # The first of each run of questions, and of each run of answers: a wait is from one to the other.
    turns = "arrayFilter((turn, before) -> turn.2 != before, said, arrayPopBack(arrayPushFront(said.2, 0)))"
    waits = (
        "arrayFilter(wait -> wait >= 0, arrayMap((turn, next) ->"
        f" if(turn.2 = 1, {moment('next.1')} - {moment('turn.1')}, -1), arrayPopBack(turns), arrayPopFront(turns)))"
    )
    idle = f"{p.whole(scope.now_milliseconds)} - last > {p.whole(asked.idle_seconds * 1000)}"
    return (
        "SELECT thread, began, last, person, questions + answers AS messages, questions, answers, lengths,"
        f" {turns} AS turns, {waits} AS waits, notEmpty(turns) AND turns[-1].2 = 1 AS waiting,"
        f" multiIf(done, 'completed', gave_up OR {idle}, 'abandoned', questions >= 2, 'continued', 'created') AS outcome"
        f" FROM ({gathered})"
    )


def _plan(asked: Threads, scope: Scope) -> Plan:
    of = asked.period(scope)
    statements = {"main": _main(asked, scope, of)}
    found = None
    if asked.interval is not None:
        found = period.buckets(of, asked.interval, scope)
        statements["trend"] = _trend(asked, scope, of, found[0].start)
    state = period.state_of(of, scope)

    def shape(rows: Any) -> dict[str, Any]:
        floor, (count, people, *row) = Floor(asked.floor), rows["main"][0]

        def told(value: Any, who: int, state: str = state) -> Any:
            # Also of threads of nobody: those are no number of no people.
            return floor.number(period.known(value, state), max(who, 1) if value else 0)

        n = len(OUTCOMES)
        outcomes, whose, row = row[:n], row[n : 2 * n], row[2 * n :]
        # Each number of messages beside the people behind it, then the same of each spread.
        answer: dict[str, Any] = {
            "zone": asked.zone,
            "range": {"from": iso(of.start), "to": iso(of.end)},
            "threads": told(count, people),
            "persons": told(people, people),
            "outcomes": {name: told(c, who) for name, c, who in zip(OUTCOMES, outcomes, whose, strict=True)},
        }
        for name in _COUNTED:
            value, who, *row = row
            answer[name] = told(value, who)
        for name in _SPREADS:
            average, (median, p90), who, *row = row
            known = average is not None and floor.lets(max(who, 1))
            answer[name] = {"average": average, "median": median, "p90": p90} if known else None
        if found is not None:
            counts = {(bucket, outcome): (c, who) for bucket, outcome, c, who in rows["trend"]}
            answer["interval"], answer["buckets"] = asked.interval, shown(found)
            answer["trend"] = {
                name: [told(*counts.get((k, name), (0, 0)), b.state) for k, b in enumerate(found)] for name in OUTCOMES
            }
        if _lists(asked):
            answer["columns"] = list(_LISTED)
            answer["rows"] = [[r[1], r[2], iso(-r[0]), iso(r[3]), *r[4:7], bool(r[7])] for r in row[-1]]
        return answer | floor.said()

    return Plan(statements, _definition(asked, of), shape)


def _lists(asked: Threads) -> bool:
    return asked.limit > 0 and not asked.floor


def _main(asked: Threads, scope: Scope, of: Period) -> Statement:
    p = Parameters(scope.tenancy)
    outcomes = ", ".join(f"countIf(outcome = '{name}')" for name in OUTCOMES)
    persons = ", ".join(f"uniqExactIf(person, outcome = '{name}' AND person != '')" for name in OUTCOMES)

    def people(which: str = "true") -> str:
        return f"uniqExactIf(person, {which} AND person != '')"

    def spread(values: str, array: str = "", which: str = "true") -> str:
        return f"avg{array}({values}), quantilesExactInclusive{array}(0.5, 0.9)({values}), {people(which)}"

    counted = ", ".join(f"sum({name}), {people(which)}" for name, which in _COUNTED.items())
    spreads = ", ".join(
        (
            spread("arrayMap(wait -> wait / 1000, waits)", "Array", "notEmpty(waits)"),
            spread("messages"),
            spread("(last - began) / 1000"),
            spread("lengths", "Array", "notEmpty(lengths)"),
        )
    )
    who = "'[CLAIMED]'" if PERSON in hidden(scope.role) else PERSON
    newest = f"groupArraySorted({asked.limit})((-began, thread, {who}, last, outcome, messages, answers, waiting))"
    return p.statement(
        f"SELECT count(), {people()}, {outcomes}, {persons}, {counted}, {spreads}, {newest if _lists(asked) else '[]'}"
        f" FROM ({threads(asked, scope, p, of)})"
    )


def _trend(asked: Threads, scope: Scope, of: Period, first: int) -> Statement:
    p = Parameters(scope.tenancy)
    assert asked.interval is not None
    bucket = period.index(p, asked.interval, first, of.zone, "fromUnixTimestamp64Milli(began, 'UTC')")
    return p.statement(
        f"SELECT {bucket} AS bucket, outcome, count(), uniqExactIf(person, person != '')"
        f" FROM ({threads(asked, scope, p, of)}) GROUP BY bucket, outcome ORDER BY bucket, outcome"
    )


def _one(asked: Threads, scope: Scope, thread: str) -> Plan:
    check_no_floor(asked.floor)
    p = Parameters(scope.tenancy)
    text = covered(scope.role).get("message_content", "message_content")
    who = "'[CLAIMED]'" if PERSON in hidden(scope.role) else PERSON
    role = property_of("event_metadata.role", scope).text
    rows = events(
        p,
        [f"{PLACE} AS place", "event_id", "event_name", f"{role} AS role", f"{text} AS said", "message_length"],
        [f"thread_id IN {p.texts(scope.stored([thread]))}", condition(asked.filter, scope, p)],
    )
    main = p.statement(
        f"SELECT event_id, {moment('place')}, event_name, role, {who}, said, message_length FROM ({rows})"
        f" ORDER BY place LIMIT {_MOST_EVENTS + 1}"
    )

    def shape(found: Any) -> dict[str, Any]:
        told = found["main"][:_MOST_EVENTS]
        return {
            "thread": thread,
            "columns": list(_COLUMNS),
            "rows": [[row[0], iso(row[1]), *row[2:]] for row in told],
            "complete": len(found["main"]) <= _MOST_EVENTS,
        }

    return Plan({"main": main}, "The events of one thread in order; texts as they are stored, masked.", shape)


def _definition(asked: Threads, of: Period) -> str:
    said = [
        "threads whose first event lies in the range, with all their events until now",
        f"messages: {words.selection(asked.message)}; an answer is one whose event_metadata.role is set and not user",
        f"completed: holds {words.selection(asked.completed)}; abandoned: holds {words.selection(asked.abandoned)}, or was"
        f" quiet for more than {asked.idle_seconds} seconds; continued: two questions or more; created: the rest",
        "time to answer: from a question to the next answer, questions in between start none",
        words.conditions(asked, of),
    ]
    return "; ".join(said) + "."
