"""A property that no event has is refused with a hint; one that was seen once costs nothing from then on."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.query.stage import ASKER, Stage, staged
from twintrack.errors import RequestError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
YEARS_AGO = NOW - timedelta(days=900)
DAY = {"range": {"last": 1}}


def row(number: int, moment: datetime, **metadata: Any) -> dict[str, Any]:
    return {
        "event_id": UUID(int=number),
        "event_name": "view",
        "event_timestamp": moment,
        "user_id": "ada",
        "session_id": "s",
        "event_metadata": metadata,
    }


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    rows = [
        row(1, NOW, plan="pro", address={"city": "Ulm"}, order_id=9007199254740993),
        row(2, NOW, order_id=9007199254740992),
        row(3, NOW, order_id="9007199254740993"),
        row(4, NOW, order_id=18446744073709551615),
        row(5, NOW, order_id=-9007199254740993.0),
        row(6, NOW, order_id=17.5),
        row(7, YEARS_AGO, old="x"),
    ]
    with staged(tmp_path_factory.mktemp("seen") / "store", NOW, rows) as opened:
        yield opened


def filtered(name: str, operator: str = "=", value: Any = "pro", **more: Any) -> dict[str, Any]:
    return {**DAY, "filter": {"property": f"event_metadata.{name}", "operator": operator, "value": value, **more}}


@pytest.mark.parametrize(
    "kind,question,hint",
    [
        ("trends", filtered("plam"), "near: event_metadata.plan;"),
        ("trends", {**DAY, "filter": {"not": {"any": [filtered("plam")["filter"]]}}}, "near: event_metadata.plan;"),
        ("trends", {**DAY, "breakdown": ["event_metadata.Plan"]}, "near: event_metadata.plan;"),
        ("trends", {**DAY, "series": [{"measure": "sum", "property": "event_metadata.amount"}]}, "POST"),
        ("trends", filtered("address"), "near: event_metadata.address.city;"),
        ("funnel", {**DAY, "steps": [{}, {"filter": filtered("plam")["filter"]}]}, "near: event_metadata.plan;"),
        ("sessions", {**DAY, "by": "event_metadata.plam"}, "near: event_metadata.plan;"),
        ("properties", {**DAY, "property": "event_metadata.plam"}, "near: event_metadata.plan;"),
        ("cohorts", {"definition": {"has": filtered("plam")["filter"]}}, "near: event_metadata.plan;"),
        ("actors", {"of": {"kind": "trends", **filtered("plam")}}, "near: event_metadata.plan;"),
    ],
)
def test_property_that_no_event_has_is_refused_with_what_is_near(
    stage: Stage, kind: str, question: dict[str, Any], hint: str
) -> None:
    with pytest.raises(RequestError) as refused:
        stage.ask(kind, question)
    assert (refused.value.code, refused.value.status) == ("unknown_property", 400)
    assert "has the property 'event_metadata." in refused.value.message
    assert refused.value.hint.startswith(hint) and "query/properties" in refused.value.hint


def test_property_seen_years_ago_is_known_and_looked_for_once(stage: Stage) -> None:
    asked = stage.executor._metrics.queries.labels("ok")

    def questions() -> float:
        before = asked._value.get()
        assert stage.ask("trends", filtered("old"))["series"][0]["total"] == 0
        return float(asked._value.get() - before)

    assert questions() == questions() + 1


def test_property_of_a_project_without_events_may_come(stage: Stage) -> None:
    nobody = ASKER._replace(tenancy=ASKER.tenancy._replace(project="nobody's"))
    assert stage.ask("trends", filtered("plam"), nobody)["series"][0]["total"] == 0
    elsewhere = ASKER._replace(tenancy=ASKER.tenancy._replace(project="other"))
    stage.ask("trends", filtered("plan"), elsewhere)  # its own events have it
    with pytest.raises(RequestError):
        stage.ask("trends", filtered("plam"), elsewhere)


BIG = 9007199254740993  # 2**53 + 1: no float is it


@pytest.mark.parametrize(
    "operator,value,count",
    [
        ("=", BIG, 2),  # the number and the text
        ("=", BIG - 1, 1),
        ("=", float(BIG - 1), 1),
        ("!=", BIG, 4),
        ("in", [BIG - 1, 17.5], 2),
        ("not in", [BIG, 18446744073709551615], 3),
        ("=", 18446744073709551614, 0),
        ("=", 18446744073709551615, 1),
        (">", BIG - 1, 3),
        (">=", BIG, 3),
        ("<", BIG, 3),
        ("<=", -(BIG - 1), 1),
        ("between", [17.5, BIG - 1], 2),
        ("between", [BIG, 1e300], 3),
        ("<", 1e300, 6),
        ("<", -(10**74), 0),
    ],
)
def test_whole_numbers_beyond_floats_are_compared_exactly(stage: Stage, operator: str, value: Any, count: int) -> None:
    answer = stage.ask("trends", filtered("order_id", operator, value))
    assert answer["series"][0]["total"] == count


def test_number_too_long_to_compare_is_refused_with_a_hint(stage: Stage) -> None:
    with pytest.raises(RequestError) as refused:
        stage.ask("trends", filtered("order_id", "=", 10**400))
    assert refused.value.code == "bad_filter" and "as a text" in refused.value.hint
