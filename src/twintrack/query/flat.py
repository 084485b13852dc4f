"""Any answer as one flat table: which columns each kind has, and its rows. Pure, and of the answer alone.

A kind whose answer has several parts says in `part` which one a row is of; what a part has no use for is null. A name means
the same in every kind: `MEANING` is what `docs/reference/answers.md` is made of. No number of an answer is left out.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from twintrack.query.catalog import COLUMNS
from twintrack.query.compile.events import SHOWN

Answer = Mapping[str, Any]
Row = dict[str, Any]
Kind = Literal["text", "number", "whole", "bool", "time", "json"]


class Column(NamedTuple):
    """`number` is a float, `time` an instant, `json` whatever JSON has; any of them may be null."""

    name: str
    kind: Kind


MEANING: dict[str, tuple[Kind, str]] = {
    "part": ("text", "which part of the answer the row is of"),
    "series": ("text", "the series by its letter, or the formula"),
    "measure": ("text", "what was counted or measured"),
    "label": ("text", "the series or step in words"),
    "breakdown_1": ("text", "value of the first property of the breakdown; null where an event has none"),
    "breakdown_2": ("text", "of the second"),
    "breakdown_3": ("text", "of the third"),
    "other": ("bool", "true: the groups that are not shown, as one; false: one group; null: everybody"),
    "start": ("time", "where the bucket, or the range of a total, begins"),
    "end": ("time", "where it ends; this instant is not in"),
    "state": ("text", "of the bucket: whole, cut, unfinished, expired or gap"),
    "value": ("number", "the number; null where nothing is known or left, or where the floor withholds it"),
    "withheld": ("whole", "how many numbers of the series the floor withholds"),
    "property_value": ("text", "value of `by`; null where an event has none"),
    "step": ("whole", "the step, 1 for the first"),
    "count": ("whole", "how many reached the step"),
    "of_first": ("number", "share of those who did the first step"),
    "of_previous": ("number", "share of those who did the step before"),
    "dropped": ("whole", "how many did the step before and not this one"),
    "average": ("number", "average; of seconds where the part is of time"),
    "median": ("number", "median"),
    "p90": ("number", "90th percentile"),
    "size": ("whole", "people of the cohort"),
    "period": ("whole", "so many buckets after the cohort's own"),
    "period_state": ("text", "of that bucket: whole, unfinished, expired or gap"),
    "returned": ("whole", "people of the cohort who were back"),
    "share": ("number", "part of all cohorts together that was back, of whole buckets"),
    "lifecycle": ("text", "new, returning, resurrecting or dormant"),
    "buckets": ("whole", "in so many buckets of the range"),
    "persons": ("whole", "so many people"),
    "everyone": ("whole", "people with any event"),
    "place": ("whole", "place in the walk, 0 for the event that was asked about or the first one"),
    "name": ("text", "name of an event, null for other; of a number or a property"),
    "target": ("text", "the event that follows, null for other"),
    "path": ("json", "names of a whole walk"),
    "walks": ("whole", "so many walks"),
    "leave": ("whole", "walks that end here"),
    "enter": ("whole", "walks that begin here"),
    "outcome": ("text", "created, continued, completed or abandoned"),
    "types": ("json", "types that the property's values have"),
    "events": ("whole", "so many events"),
    "sessions": ("whole", "so many sessions"),
    "first_milliseconds": ("whole", "time of the first event, since 1970"),
    "last_milliseconds": ("whole", "time of the last event, since 1970"),
    "signed_in": ("bool", "whether any of the events has a user id"),
    "anonymous_ids": ("json", "anonymous ids of the person"),
    "began": ("time", "first event of the thread"),
    "last": ("time", "last event of the thread"),
    "messages": ("whole", "questions and answers of the thread"),
    "answers": ("whole", "answers of the thread"),
    "waiting": ("bool", "whether its last message is a question"),
    "at": ("time", "time of the event"),
    "role": ("text", "`event_metadata.role` of the event"),
    "person": ("text", "the person: docs/questions.md"),
    "event_metadata": ("json", "metadata of the event"),
    "masked": ("json", "what was masked in the event"),
    "consent_denied": ("json", "purposes that the consent of the event denies"),
}
_BREAKDOWN = ("breakdown_1", "breakdown_2", "breakdown_3", "other")
_BUCKET = ("start", "end", "state")
_SPREAD = ("average", "median", "p90")
_BETWEEN = ("first_milliseconds", "last_milliseconds")
_THREAD = ("thread_id", "person", "began", "last", "messages", "answers", "waiting")


class Shape(NamedTuple):
    """How answers of one kind become rows: a row holds what is not null, by name.

    Without `columns` they are those that the answer lists. `with_field` tells apart answers of one kind: it is a field that
    only these have. Of a further page of a list `columns` and `rows` are enough.
    """

    rows: Callable[[Answer], Iterable[Row]]
    columns: tuple[str, ...] = ()
    with_field: str = ""

    def columns_of(self, answer: Answer) -> list[Column]:
        return [column(name) for name in self.columns or answer["columns"]]


def column(name: str) -> Column:
    """Of a column of events, or of a name in `MEANING`."""
    if name in MEANING:
        return Column(name, MEANING[name][0])
    kept = COLUMNS[name]
    return Column(name, "whole" if kept == "number" else kept)  # type: ignore[arg-type]


def shape_of(kind: str, answer: Answer) -> Shape:
    return next(shape for shape in SHAPES[kind] if not shape.with_field or shape.with_field in answer)


def _listed(answer: Answer) -> Iterator[Row]:
    for row in answer["rows"]:
        yield dict(zip(answer["columns"], row, strict=True))


def _group(of: Answer) -> Row:
    """The values of a breakdown, each in a column of its own."""
    if "breakdown" not in of:
        return {}
    return {**{f"breakdown_{n}": key for n, key in enumerate(of["breakdown"] or [], 1)}, "other": of["other"]}


def _by_bucket(part: str, told: Row, buckets: list[Row], values: list[Any], name: str = "value") -> Iterator[Row]:
    for bucket, value in zip(buckets, values, strict=True):
        yield {"part": part, **told, **bucket, name: value}


def _range(answer: Answer) -> Row:
    return {"start": answer["range"]["from"], "end": answer["range"]["to"]}


def _trends(answer: Answer) -> Iterator[Row]:
    halves = {"": answer} | ({"comparison ": answer["comparison"]} if "comparison" in answer else {})
    for half, of in halves.items():
        for series in of["series"]:
            told = {"series": series["name"], "label": series["label"], **_group(series)}
            yield from _by_bucket(f"{half}step", told, of["buckets"], series["values"])
            held = {"withheld": series["withheld"]} if "withheld" in series else {}
            yield {"part": f"{half}total", **told, **_range(of), "value": series["total"], **held}


def _sessions(answer: Answer) -> Iterator[Row]:
    for series in answer["series"]:
        told = {"measure": series["name"]}
        yield from _by_bucket("step", told, answer["buckets"], series["values"])
        yield {"part": "total", **told, **_range(answer), "value": series["total"]}
    for side in ("entry", "exit"):
        for value, count in answer[side]:
            yield {"part": side, "measure": "sessions", **_range(answer), "property_value": value, "value": count}


def _funnel(answer: Answer) -> Iterator[Row]:
    for of in (answer, *answer.get("groups", ())):
        told = {**_group(of), **_range(answer)}
        for n, step in enumerate(of["steps"], 1):
            numbers = {k: v for k, v in step.items() if k != "seconds_from_previous"}
            yield {"part": "step", **told, "step": n, **numbers, **(step["seconds_from_previous"] or {})}
        yield {"part": "whole way", **told, **(of["seconds"] or {})}
    for bucket, counts in zip(answer.get("buckets", ()), answer.get("trend", ()), strict=True):
        for n, step in enumerate(answer["steps"]):
            count = None if counts is None else counts[n]
            yield {"part": "trend", **bucket, "step": n + 1, "label": step["label"], "count": count}


def _retention(answer: Answer) -> Iterator[Row]:
    for of in (answer, *answer.get("groups", ())):
        told = _group(of)
        for cohort in of["cohorts"]:
            own = {name: cohort[name] for name in (*_BUCKET, "size")}
            for n, (back, state) in enumerate(zip(cohort["returned"], cohort["states"], strict=True)):
                yield {"part": "cohort", **told, **own, "period": n, "period_state": state, "returned": back}
        for n, share in enumerate(of["shares"]):
            yield {"part": "share", **told, **_range(answer), "period": n, "share": share}


def _lifecycle(answer: Answer) -> Iterator[Row]:
    for state, values in answer["states"].items():
        for bucket, value in zip(answer["buckets"], values, strict=True):
            yield {"lifecycle": state, **bucket, "persons": value}


def _stickiness(answer: Answer) -> Iterator[Row]:
    for bucket in answer["buckets"]:
        yield {"part": "bucket", **bucket}
    for part in ("exactly", "at_least"):
        for n, value in enumerate(answer[part], 1):
            yield {"part": part, "buckets": n, "persons": value}
    yield {"part": "total", "persons": answer["persons"], "average": answer["average"]}


def _paths(answer: Answer) -> Iterator[Row]:
    yield {"part": "total", "walks": answer["walks"]}
    for node in answer["nodes"]:
        yield {"part": "node", **node}
    for link in answer["links"]:
        yield {"part": "link", "name": link["source"], **{k: v for k, v in link.items() if k != "source"}}
    for path in answer["paths"]:
        yield {"part": "path", **path}


def _threads(answer: Answer) -> Iterator[Row]:
    numbers = ("threads", "persons", "messages", "answers", "waiting")
    for name in numbers:
        yield {"part": "total", "name": name, **_range(answer), "value": answer[name]}
    for outcome, count in answer["outcomes"].items():
        yield {"part": "outcome", "name": "threads", "outcome": outcome, **_range(answer), "value": count}
    for name in ("seconds_to_answer", "messages_per_thread", "seconds_per_thread", "characters_per_message"):
        yield {"part": "spread", "name": name, **_range(answer), **(answer[name] or {})}
    for outcome, values in answer.get("trend", {}).items():
        yield from _by_bucket("trend", {"name": "threads", "outcome": outcome}, answer["buckets"], values)
    for row in _listed({"columns": (), "rows": (), **answer}):
        yield {"part": "thread", **row}


def _timeline(answer: Answer) -> Iterator[Row]:
    if "summary" in answer:
        yield {"part": "summary", "person": answer["person"], **answer["summary"]}
    for row in _listed(answer):
        yield {"part": "event", **row}


def _numbers(*names: str) -> Callable[[Answer], Iterator[Row]]:
    return lambda answer: iter([{name: answer[name] for name in names}])


SHAPES: dict[str, tuple[Shape, ...]] = {
    "trends": (Shape(_trends, ("part", "series", "label", *_BREAKDOWN, *_BUCKET, "value", "withheld")),),
    "sessions": (Shape(_sessions, ("part", "measure", *_BUCKET, "property_value", "value")),),
    "funnel": (
        Shape(
            _funnel,
            ("part", *_BREAKDOWN, *_BUCKET, "step", "label", "count", "of_first", "of_previous", "dropped", *_SPREAD),
        ),
    ),
    "retention": (
        Shape(_retention, ("part", *_BREAKDOWN, *_BUCKET, "size", "period", "period_state", "returned", "share")),
    ),
    "lifecycle": (Shape(_lifecycle, ("lifecycle", *_BUCKET, "persons")),),
    "stickiness": (Shape(_stickiness, ("part", *_BUCKET, "buckets", "persons", "average")),),
    "paths": (Shape(_paths, ("part", "place", "name", "target", "path", "walks", "leave", "enter")),),
    "threads": (
        Shape(_listed, (), with_field="thread"),
        Shape(
            _threads,
            ("part", "name", "outcome", *_BUCKET, "value", *_SPREAD, *_THREAD),
        ),
    ),
    "cohorts": (Shape(_numbers("persons", "everyone"), ("persons", "everyone")),),
    "users": (
        Shape(
            _timeline,
            ("part", "person", "anonymous_ids", "events", "sessions", *_BETWEEN, *(n for n in SHOWN if n != "person")),
            with_field="person",
        ),
        Shape(_listed),
    ),
    "events": (Shape(_listed),),
    "properties": (
        Shape(
            lambda answer: ({"property_value": value, "events": count} for value, count in answer["values"]),
            ("property_value", "events"),
            with_field="values",
        ),
        Shape(lambda answer: answer["properties"], ("name", "types")),
    ),
    "actors": (Shape(_listed),),
}
