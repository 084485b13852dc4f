"""Random questions about the two sets of rows, as they are sent."""

from typing import Any

from hypothesis import strategies as st

Json = dict[str, Any]
ZONES = ["UTC", "Asia/Kathmandu", "Asia/Tehran", "Europe/Berlin", "America/New_York"]
GENERATED_PROPERTIES = [
    "event_metadata.plan",
    "event_metadata.amount",
    "event_metadata.deep.level",
    "event_value",
    "page_path",
]
SHOP_PROPERTIES = [
    f"event_metadata.{name}" for name in ("platform", "acquisition_channel", "user_cohort", "user_lifecycle")
]
_TEXTS = ["free", "pro", "Pro", "a,b", "1", "true", "x\\y", "o'k", "é", "", "5", "/buy", "nothing has this"]


def _condition(**parts: Any) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries(
        {name: p if isinstance(p, st.SearchStrategy) else st.just(p) for name, p in parts.items()}
    )


def generated_filters() -> st.SearchStrategy[Json]:
    name = st.sampled_from([*GENERATED_PROPERTIES, "event_name", "user_id", "session_id", "thread_id"])
    numeric = st.sampled_from(["event_metadata.amount", "event_value", "viewport_width", "event_metadata.plan"])
    numbers = st.sampled_from([0, 1, 2.5, 3, 7, 12.5, 100, 320, -4])
    texts = st.sampled_from(_TEXTS)
    moments = st.sampled_from(["2024-03-31T01:00:00Z", "2024-10-27", "2024-10-27T02:30:00+01:00"])
    times = st.sampled_from(["event_timestamp", "event_metadata.when"])
    order = st.sampled_from(["<", "<=", ">", ">="])
    leaf = st.one_of(
        _condition(property=name, operator=st.sampled_from(["=", "!="]), value=texts),
        _condition(property=numeric, operator=st.sampled_from(["=", "!="]), value=numbers),
        _condition(property=name, operator=st.sampled_from(["in", "not in"]), value=st.lists(texts, max_size=4)),
        _condition(property=numeric, operator=st.sampled_from(["in", "not in"]), value=st.lists(numbers, max_size=3)),
        _condition(property=name, operator="contains", value=st.sampled_from(["r", "o", "/", "'", "\\", "é", "%"])),
        _condition(
            property=name, operator="matches", value=st.sampled_from(["^p", "(?i)PRO", "[0-9]+$", "u[1-3]", "\\\\"])
        ),
        _condition(
            property=st.one_of(name, st.just("event_metadata.deep")), operator=st.sampled_from(["is set", "is not set"])
        ),
        _condition(property=numeric, operator=order, value=numbers),
        _condition(property=name, operator=order, value=texts),
        _condition(property=numeric, operator="between", value=st.tuples(numbers, numbers).map(list)),
        _condition(property="event_metadata.plan", operator=st.sampled_from(["=", "!="]), value=st.booleans()),
        _condition(property="is_bot", value=st.booleans()),
        _condition(property=times, operator=order, value=moments, type="time"),
        _condition(property="person", operator=st.sampled_from(["=", "!="]), value=st.sampled_from(["u1", "u6", "a0"])),
    )
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3).map(lambda parts: {"all": parts}),
            st.lists(inner, max_size=3).map(lambda parts: {"any": parts}),
            inner.map(lambda part: {"not": part}),
        ),
        max_leaves=4,
    )


def shop_filters() -> st.SearchStrategy[Json]:
    return st.one_of(
        _condition(property="event_metadata.platform", value=st.sampled_from(["mobile", "desktop", "tablet"])),
        _condition(property="event_metadata.user_cohort", operator="in", value=st.just(["2024-01", "2024-04"])),
        _condition(property="event_metadata.acquisition_channel", operator="!=", value=st.just("email")),
        _condition(property="event_name", operator="contains", value=st.just("c")),
    )


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The strategy, or None; a part of a question that is None is left out by `sent`."""
    return st.one_of(st.none(), strategy)


def sent(question: Json) -> Json:
    """The question without what is not said."""
    return {name: value for name, value in question.items() if value is not None}


# Ranges over the generated rows with an interval that suits them.
RANGES: list[tuple[Json, str]] = [
    ({"from": "2024-03-29", "to": "2024-04-02"}, "hour"),
    ({"from": "2024-10-26", "to": "2024-10-28"}, "hour"),
    ({"from": "2024-10-27", "to": "2024-10-27"}, "minute"),
    ({"from": "2024-02-15", "to": "2024-04-15"}, "day"),
    ({"from": "2024-02-15", "to": "2024-11-10"}, "week"),
    ({"from": "2024-02-15", "to": "2024-11-10"}, "month"),
    ({"last": 10}, "day"),
    ({"last": 3, "unit": "month"}, "month"),
    ({"last": 5, "unit": "week", "complete": True}, "week"),
    ({"last": 40, "unit": "hour"}, "hour"),
    ({"last": 7, "complete": True}, "day"),
]
SHOP_RANGES: list[tuple[Json, str]] = [
    ({"from": "2024-01-01", "to": "2024-06-30"}, "month"),
    ({"from": "2024-03-01", "to": "2024-03-31"}, "day"),
    ({"from": "2024-01-01", "to": "2024-06-30"}, "week"),
    ({"last": 14}, "day"),
]
