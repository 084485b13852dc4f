"""What is asked over the year (benchmarks/year.py): each question as ours and as SQL, with what both must answer alike.

The others are asked for the same as ours, by ours own words: a funnel's steps each behind the one before, in the order of
moment and id, from any first event in the range; "first ever" and a thread's beginning told from all history; a cohort
beside everyone; people's names the same. What is not compared, and why:

- properties in DuckDB: its files hold columns, no JSON whose paths it could list. The plan's schema is asked by a function
  of its engine.
- threads: characters of a message, for the files hold no lengths; the list of the newest fifty beside the numbers.
- paths: the twenty commonest whole ones; links, places and ends are compared.
- users: whether somebody signed in, for the others get persons resolved.
- pandas: a month in memory knows no history, and is there for its time.

Of events at one moment ours takes the lesser `sequence` first, the others the lesser id, for the plan has no `sequence`: the
year's ids are made in that order. No event lies behind the last week of return of a retention, so its SQL has no end.
"""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

MONTH = {"from": "2026-10-01", "to": "2026-10-30"}
YEAR = {"from": "2025-11-01", "to": "2026-10-31"}
STEPS = ("view_item", "add_to_cart", "checkout")
WINDOW_DAYS = 7
_PAGE = 100
_STATES = ("new", "returning", "resurrecting", "dormant")
_FATES = ("created", "continued", "completed", "abandoned")

Rows = list[Any]


class Question(NamedTuple):
    name: str
    kind: str
    body: dict[str, Any]
    span: dict[str, str]
    goal_milliseconds: int
    number: Callable[[dict[str, Any]], Any]  # of our answer, to be compared with `told`
    told: Callable[[Rows], Any]  # the same of the others' rows
    sql: str  # of the others: {events} is their table, {person} their person, {range} the range; `others.py` has all words


# --- SQL that both read: where they differ it has words of `others.py`, and quantiles are written as DuckDB writes them

_WALKED = "PARTITION BY who ORDER BY t DESC, id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING"
# Backwards: behind each event the first add_to_cart, and the first checkout behind that one.
FUNNEL = (
    "WITH walk AS (SELECT {person} AS who, event_name AS name, event_timestamp AS t, {id} AS id FROM {events}"
    f" WHERE {{reach}} AND event_name IN {STEPS}),"
    " three AS (SELECT who, name, t, id, min(CASE WHEN name = 'checkout' THEN t END) OVER w AS third FROM walk"
    f" WINDOW w AS ({_WALKED})),"
    " two AS (SELECT who, name, t, min(CASE WHEN name = 'add_to_cart' THEN t END) OVER w AS second,"
    f" min(CASE WHEN name = 'add_to_cart' THEN third END) OVER w AS last FROM three WINDOW w AS ({_WALKED}))"
    " SELECT count(DISTINCT who),"
    f" count(DISTINCT CASE WHEN second <= t + INTERVAL {WINDOW_DAYS} DAY THEN who END),"
    f" count(DISTINCT CASE WHEN last <= t + INTERVAL {WINDOW_DAYS} DAY THEN who END)"
    " FROM two WHERE name = 'view_item' AND t < {end}"
)
RETENTION = (
    "WITH active AS (SELECT {person} AS who, {week} AS week, count(*) AS n FROM {events} GROUP BY who, week),"
    " began AS (SELECT who, min(week) AS cohort FROM active GROUP BY who)"
    " SELECT cohort, active.week AS week, count(*), sum(CASE WHEN n > 1 THEN 1 ELSE 0 END)"
    " FROM active JOIN began ON active.who = began.who WHERE cohort >= {monday} GROUP BY cohort, active.week ORDER BY 1, 2"
)
# Who is not there in the week behind is dormant in that one.
LIFECYCLE = (
    "WITH active AS (SELECT {person} AS who, {week} AS week FROM {events} GROUP BY who, week),"
    " walk AS (SELECT week, week >= {monday} AS inside, row_number() OVER w AS n, lag(week) OVER w AS before,"
    " lead(week) OVER w AS following FROM active WINDOW w AS (PARTITION BY who ORDER BY week))"
    " SELECT week, sum(CASE WHEN inside AND n = 1 THEN 1 ELSE 0 END),"
    " sum(CASE WHEN inside AND n > 1 AND before = week - INTERVAL 7 DAY THEN 1 ELSE 0 END),"
    " sum(CASE WHEN inside AND n > 1 AND before < week - INTERVAL 7 DAY THEN 1 ELSE 0 END),"
    " sum(CASE WHEN week >= {last_monday} OR following = week + INTERVAL 7 DAY THEN 0 ELSE 1 END)"
    " FROM walk WHERE week >= {monday} - INTERVAL 7 DAY AND week <= {last_monday} GROUP BY week"
)
PATHS = (
    "WITH walk AS (SELECT session_id AS s, event_name AS name, event_timestamp AS t, {id} AS id,"
    " lag(event_name) OVER (PARTITION BY session_id ORDER BY event_timestamp, {id}) AS before"
    " FROM {events} WHERE {range} AND session_id <> ''),"
    " steps AS (SELECT name, row_number() OVER w AS n, lead(name) OVER w AS following FROM walk"
    " WHERE before IS NULL OR before <> name WINDOW w AS (PARTITION BY s ORDER BY t, id))"
    " SELECT n, name, coalesce(following, ''), count(*) FROM steps WHERE n <= 5 GROUP BY 1, 2, 3"
)
DAYS = "SELECT {day} AS day, count(*) AS n FROM {events} WHERE {range} GROUP BY day ORDER BY day"
PERSONS = "SELECT {day} AS day, count(DISTINCT {person}) AS n FROM {events} WHERE {range} GROUP BY day ORDER BY day"
BY_PLAN = (
    "SELECT {day} AS day, {plan} AS plan, count(*) AS n FROM {events} WHERE {range} GROUP BY day, plan ORDER BY 1, 2"
)
STICKINESS = (
    "SELECT n, count(*) FROM (SELECT {person} AS who, count(DISTINCT {day}) AS n FROM {events} WHERE {range}"
    " GROUP BY who) AS a GROUP BY n ORDER BY n"
)
SESSIONS = (
    "WITH one AS (SELECT min({step}) AS step, count(*) AS n,"
    " ({milliseconds}(max(event_timestamp)) - {milliseconds}(min(event_timestamp))) / 1000.0 AS seconds,"
    " argMin(event_name, (event_timestamp, {id})) AS entry, argMax(event_name, (event_timestamp, {id})) AS leave"
    " FROM {events} WHERE {range} AND session_id <> '' GROUP BY session_id)"
    " SELECT grouping(step, entry, leave), step, entry, leave, count(*), sum(CASE WHEN n = 1 THEN 1 ELSE 0 END),"
    " avg(seconds), quantile_cont(seconds, 0.5), avg(n) FROM one"
    " GROUP BY GROUPING SETS ((step), (entry), (leave), ()) ORDER BY 1, 2"
)


def _spread(of: str) -> str:
    return f"avg({of}), quantile_cont({of}, 0.5), quantile_cont({of}, 0.9)"


# A wait is from the first of a run of questions to the next answer.
THREADS = (
    "WITH said AS (SELECT thread_id AS thread, {person} AS who, event_timestamp AS t, {id} AS id,"
    " CASE WHEN event_name = 'thread_completed' THEN 1 ELSE 0 END AS completes,"
    " CASE WHEN event_name = 'thread_abandoned' THEN 1 ELSE 0 END AS abandons,"
    " CASE WHEN event_name <> 'message_sent' THEN 0 WHEN coalesce(nullif({role}, ''), 'user') = 'user' THEN 1 ELSE 2 END"
    " AS kind FROM {events} WHERE thread_id <> ''),"
    " threads AS (SELECT thread, argMin(who, (t, id)) AS who, max(completes) AS done, max(abandons) AS gave_up,"
    " {milliseconds}(min(t)) AS began, {milliseconds}(max(t)) AS ended, sum(CASE WHEN kind = 1 THEN 1 ELSE 0 END) AS asks,"
    " sum(CASE WHEN kind = 2 THEN 1 ELSE 0 END) AS answers"
    " FROM said GROUP BY thread HAVING min(t) >= {start} AND min(t) < {end}),"
    " turns AS (SELECT thread, t, id, kind, lag(kind) OVER (PARTITION BY thread ORDER BY t, id) AS before FROM said"
    " WHERE kind > 0),"
    " runs AS (SELECT thread, kind, {milliseconds}(t) AS asked, lead(kind) OVER w AS follows,"
    " {milliseconds}(lead(t) OVER w) AS answered FROM turns WHERE before IS NULL OR before <> kind"
    " WINDOW w AS (PARTITION BY thread ORDER BY t, id)),"
    " waits AS (SELECT CASE WHEN follows = 2 THEN (answered - asked) / 1000.0 END AS wait FROM runs"
    " WHERE kind = 1 AND thread IN (SELECT thread FROM threads)),"
    " fates AS (SELECT who, asks + answers AS messages, answers, (ended - began) / 1000.0 AS seconds, CASE WHEN done = 1"
    " THEN 'completed' WHEN gave_up = 1 OR {now} - ended > 86400000 THEN 'abandoned' WHEN asks >= 2 THEN 'continued'"
    " ELSE 'created' END AS fate FROM threads)"
    " SELECT * FROM (SELECT count(*), count(DISTINCT who),"
    + "".join(f" sum(CASE WHEN fate = '{fate}' THEN 1 ELSE 0 END)," for fate in _FATES)
    + f" sum(messages), sum(answers), {_spread('messages')}, {_spread('seconds')} FROM fates) AS a"
    f" CROSS JOIN (SELECT sum(CASE WHEN wait IS NULL THEN 1 ELSE 0 END), {_spread('wait')} FROM waits) AS b"
)
USERS = (
    "SELECT {person} AS who, {milliseconds}(min(event_timestamp)), {milliseconds}(max(event_timestamp)) AS last, count(*),"
    " count(DISTINCT session_id) FROM {events} WHERE {range} GROUP BY who"
    f" ORDER BY last DESC, who DESC LIMIT {_PAGE + 1}"
)
EVENTS = (
    "SELECT event_id, event_name, {person}, session_id FROM {events} WHERE {range}"
    f" ORDER BY event_timestamp DESC, {{id}} DESC LIMIT {_PAGE + 1}"
)
VALUES = (
    "SELECT {feature} AS value, count(*) AS n FROM {events} WHERE {range} AND {feature} <> '' GROUP BY value"
    " ORDER BY n DESC, value LIMIT 50"
)
PROPERTIES = "SELECT {properties} FROM {events} WHERE {range}"
COHORT = (
    "SELECT sum(CASE WHEN n >= 2 THEN 1 ELSE 0 END), count(*) FROM (SELECT {person} AS who,"
    " sum(CASE WHEN {range} AND event_name = 'conversion_purchase' THEN 1 ELSE 0 END) AS n FROM {events} GROUP BY who) AS a"
)
ACTORS = (
    "WITH did AS (SELECT DISTINCT {person} AS who FROM {events} WHERE {range} AND event_name = 'checkout')"
    " SELECT {person} AS who, {milliseconds}(min(event_timestamp)), {milliseconds}(max(event_timestamp)), count(*),"
    " (SELECT count(*) FROM did) FROM {events} WHERE {range}"
    f" AND {{person}} IN (SELECT who FROM did ORDER BY who LIMIT {_PAGE + 1}) GROUP BY who ORDER BY who"
)


# --- what both must answer alike; sums are added up in another order, so fractions are cut


def _near(value: Any) -> Any:
    return round(float(value), 6) if value is not None else None


def _values(answer: dict[str, Any]) -> Any:
    return answer["series"][0]["values"]


def _last(rows: Rows) -> Any:
    return [row[-1] for row in rows]


def _by_group(answer: dict[str, Any]) -> Any:
    return {series["breakdown"][0]: series["values"] for series in answer["series"]}


def _of_groups(rows: Rows) -> Any:
    return {plan: [n for _, other, n in rows if other == plan] for plan in {row[1] for row in rows}}


def _steps(answer: dict[str, Any]) -> Any:
    return [step["count"] for step in answer["steps"]]


def _day(told: Any) -> date:
    return (
        told.date() if isinstance(told, datetime) else told if isinstance(told, date) else date.fromisoformat(told[:10])
    )


def _returned(answer: dict[str, Any]) -> Any:
    """Those of whom nobody came stand in no row of SQL."""
    found = {}
    for cohort in answer["cohorts"]:
        cells = [cohort["size"], *cohort["returned"]]
        found |= {(_day(cohort["start"]), n): count for n, count in enumerate(cells, -1) if count}
    return found


def _of_active(rows: Rows) -> Any:
    """Members of a cohort are those active in its first week; 0 are those who came twice in it."""
    found = {}
    for cohort, week, people, twice in rows:
        n = (_day(week) - _day(cohort)).days // 7
        found |= {(_day(cohort), -1): people, (_day(cohort), 0): int(twice)} if n == 0 else {(_day(cohort), n): people}
    return {cell: count for cell, count in found.items() if count}


def _states(answer: dict[str, Any]) -> Any:
    weeks = [_day(bucket["start"]) for bucket in answer["buckets"]]
    return {(weeks[n], name): count for name in _STATES for n, count in enumerate(answer["states"][name]) if count}


def _of_weeks(rows: Rows) -> Any:
    found = {}
    for told, *counts in rows:
        week = _day(told)
        for name, count in zip(_STATES, counts, strict=True):
            found[week + timedelta(days=7) if name == "dormant" else week, name] = int(count)
    return {cell: count for cell, count in found.items() if count}


def _exactly(answer: dict[str, Any]) -> Any:
    return {n: count for n, count in enumerate(answer["exactly"], 1) if count}


def _walked(answer: dict[str, Any]) -> Any:
    nodes = {(node["place"], node["name"]): (node["walks"], node["leave"]) for node in answer["nodes"]}
    return nodes, {(link["place"], link["source"], link["target"]): link["walks"] for link in answer["links"]}


def _of_steps(rows: Rows) -> Any:
    nodes: dict[tuple[int, str], tuple[int, int]] = {}
    for n, name, following, count in rows:
        walks, leave = nodes.get((n - 1, name), (0, 0))
        nodes[n - 1, name] = (walks + count, leave + (0 if following else count))
    return nodes, {(n - 1, name, next_): count for n, name, next_, count in rows if next_ and n < 5}


def _sessions(answer: dict[str, Any]) -> Any:
    told = [[series["total"], *series["values"]] for series in answer["series"]]
    numbers = [[_near(cell) for cell in cells] for cells in zip(*told, strict=True)]
    return numbers, dict(answer["entry"]), dict(answer["exit"])


def _of_sets(rows: Rows) -> Any:
    """`grouping` has a bit for each of step, entry and exit that a row is not about."""
    total, *_ = (row for row in rows if row[0] == 0b111)
    numbers = [[_near(cell) for cell in row[4:]] for row in (total, *(row for row in rows if row[0] == 0b011))]
    return numbers, {r[2]: r[4] for r in rows if r[0] == 0b101}, {r[3]: r[4] for r in rows if r[0] == 0b110}


def _conversations(answer: dict[str, Any]) -> Any:
    def spread(name: str) -> list[Any]:
        return [_near(answer[name][part]) for part in ("average", "median", "p90")]

    fates = (answer["outcomes"][name] for name in _FATES)
    counts = [answer["threads"], answer["persons"], *fates, answer["messages"], answer["answers"]]
    spreads = [*spread("messages_per_thread"), *spread("seconds_per_thread")]
    return [*counts, *spreads, answer["waiting"], *spread("seconds_to_answer")]


def _of_threads(rows: Rows) -> Any:
    (row,) = rows
    return [*map(int, row[:8]), *map(_near, row[8:14]), int(row[14]), *map(_near, row[15:])]


def _people(answer: dict[str, Any]) -> Any:
    return [row[:5] for row in answer["rows"]]


def _page(rows: Rows) -> Any:
    return [list(row) for row in rows[:_PAGE]]


def _of_events(rows: Rows) -> Any:
    return [[str(event_id), *row] for event_id, *row in rows[:_PAGE]]


def _listed(answer: dict[str, Any]) -> Any:
    at = [answer["columns"].index(name) for name in ("event_id", "event_name", "person", "session_id")]
    return [[row[place] for place in at] for row in answer["rows"]]


def _typed(answer: dict[str, Any]) -> Any:
    return {p["name"]: p["types"] for p in answer["properties"] if p["name"].startswith("event_metadata.")}


def _of_paths(rows: Rows) -> Any:
    words = {"String": "text", "Int64": "number", "UInt64": "number", "Float64": "number"}
    return {f"event_metadata.{path}": sorted({words[kind] for kind in kinds}) for path, kinds in rows[0][0].items()}


def _behind(answer: dict[str, Any]) -> Any:
    return [answer["total"], *answer["rows"]]


def _of_did(rows: Rows) -> Any:
    return [rows[0][-1], *(list(row[:-1]) for row in rows[:_PAGE])]


# --- the questions


def _trends(span: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"range": span, "interval": "day", **more}


def _funnel(span: dict[str, str]) -> dict[str, Any]:
    steps = [{"event": name} for name in STEPS]
    return {"range": span, "steps": steps, "window_seconds": WINDOW_DAYS * 86_400}


def _buyers(span: dict[str, str]) -> dict[str, Any]:
    return {"definition": {"did": {"event": "conversion_purchase"}, "at_least": 2, "range": span}}


def _checkout(span: dict[str, str]) -> dict[str, Any]:
    return {"of": {"kind": "trends", "range": span, "series": [{"event": "checkout", "measure": "persons"}]}}


class Kind(NamedTuple):
    """A question of whatever range; goals in milliseconds of 30 days and of a year."""

    name: str
    kind: str
    body: Callable[[dict[str, str]], dict[str, Any]]
    goals: tuple[int, int]
    number: Callable[[dict[str, Any]], Any]
    told: Callable[[Rows], Any]
    sql: str

    def over(self, said: str, span: dict[str, str]) -> Question:
        goal = self.goals[0 if span is MONTH else 1]
        return Question(
            f"{self.name}, {said}", self.kind, self.body(span), span, goal, self.number, self.told, self.sql
        )


def _ranged(span: dict[str, str]) -> dict[str, Any]:
    return {"range": span}


_RAW = (300, 2_500)
KINDS = (
    Kind("events a day", "trends", _trends, (300, 1_000), _values, _last, DAYS),
    Kind(
        "persons a day", "trends", lambda s: _trends(s, series=[{"measure": "persons"}]), _RAW, _values, _last, PERSONS
    ),
    Kind(
        "by plan",
        "trends",
        lambda s: _trends(s, breakdown=["event_metadata.plan"]),
        _RAW,
        _by_group,
        _of_groups,
        BY_PLAN,
    ),
    Kind("funnel", "funnel", _funnel, _RAW, _steps, lambda rows: list(rows[0]), FUNNEL),
    Kind(
        "retention",
        "retention",
        lambda s: {"range": s, "periods": 4 if s is MONTH else 52},
        _RAW,
        _returned,
        _of_active,
        RETENTION,
    ),
    Kind("life cycle", "lifecycle", _ranged, _RAW, _states, _of_weeks, LIFECYCLE),
    Kind("stickiness", "stickiness", _ranged, _RAW, _exactly, dict, STICKINESS),
    Kind("paths", "paths", lambda s: {"range": s, "steps": 5}, (300, 6_000), _walked, _of_steps, PATHS),
    Kind("sessions", "sessions", _ranged, _RAW, _sessions, _of_sets, SESSIONS),
    Kind("threads", "threads", _ranged, _RAW, _conversations, _of_threads, THREADS),
    Kind("users", "users", _ranged, _RAW, _people, _page, USERS),
    Kind("events", "events", _ranged, _RAW, _listed, _of_events, EVENTS),
    Kind(
        "values",
        "properties",
        lambda s: {"range": s, "property": "event_metadata.feature"},
        _RAW,
        lambda answer: answer["values"],
        _page,
        VALUES,
    ),
    Kind("properties", "properties", _ranged, _RAW, _typed, _of_paths, PROPERTIES),
    Kind(
        "cohort",
        "cohorts",
        _buyers,
        _RAW,
        lambda answer: [answer["persons"], answer["everyone"]],
        lambda rows: list(rows[0]),
        COHORT,
    ),
    Kind("actors", "actors", _checkout, _RAW, _behind, _of_did, ACTORS),
)
QUESTIONS = tuple(kind.over(said, span) for kind in KINDS for span, said in ((MONTH, "30 days"), (YEAR, "a year")))
