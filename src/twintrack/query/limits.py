"""What an answer leaves out by a limit: said in the answer itself, so that nothing is cut in silence. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from twintrack.query.question import Question

_WHOLE_PATHS = 20  # as many as `compile/paths.py` asks for
_THREAD_EVENTS = 5_000


def limits_of(asked: Question, answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each limit that bears on this answer: its field, how many at most, whether it was reached, where the rest is."""
    return [
        {"limit": field, "most": most, "reached": reached, "rest": rest}
        for field, most, reached, rest in _limits(asked, answer)
    ]


def _limits(asked: Any, answer: Mapping[str, Any]) -> Iterator[tuple[str, int, bool, str]]:
    if getattr(asked, "breakdown", None):
        groups = answer["groups"] if "groups" in answer else answer["series"]
        yield "top", asked.top, any(group.get("other") for group in groups), "one group, `other`"
    if "entry" in answer:
        reached = any(_left_out(answer[side], answer["series"][0]["total"]) for side in ("entry", "exit"))
        yield "top", asked.top, reached, "left out of `entry` and `exit`"
    if "nodes" in answer:
        yield "top", asked.top, any(node["name"] is None for node in answer["nodes"]), "one name, null"
        reached = _left_out([(p["path"], p["walks"]) for p in answer["paths"]], answer["walks"])
        yield "paths", _WHOLE_PATHS, reached, "left out of `paths`"
    if "values" in answer:
        yield "limit", asked.limit, len(answer["values"]) >= asked.limit, "left out, if there is any"
    if "outcomes" in answer and asked.limit and not asked.floor:
        yield "limit", asked.limit, (answer["threads"] or 0) > len(answer["rows"]), "left out of `rows`"
    if "complete" in answer:
        yield "events of a thread", _THREAD_EVENTS, not answer["complete"], "left out"
    if "next" in answer:
        rest = "on the next page: send `next` as `after`; of a file leave out `limit`"
        yield "limit", asked.limit, answer["next"] is not None, rest


def _left_out(listed: Iterable[Any], whole: int | None) -> bool:
    """Whether what is listed, each with its number, is less than the whole, also where a floor withholds that."""
    return whole is None or sum(number for _, number in listed) < whole
