"""The event schema says what the service does: it refuses nothing that is taken, and takes nothing it could refuse."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from tests.contract.test_cases import CASES
from twintrack.event import Envelope, Limits, WireEvent, limits
from twintrack.ingest.wire_schema import components, event_schema
from twintrack.outcomes import Reason, Status
from twintrack.testing import wire_event

SCHEMA = json.loads((Path(__file__).parents[2] / "contract" / "event.schema.json").read_text())
BODY = jsonschema_rs.Draft202012Validator(SCHEMA)
EVENT = jsonschema_rs.Draft202012Validator({"$ref": "#/$defs/WireEvent", "$defs": SCHEMA["$defs"]})


def test_committed_schema_is_what_the_code_says() -> None:
    assert event_schema(limits()) == SCHEMA


def test_schema_names_every_field_and_every_reason() -> None:
    assert set(SCHEMA["$defs"]["WireEvent"]["properties"]) == set(WireEvent.__struct_fields__)
    assert set(SCHEMA["$defs"]["Envelope"]["properties"]) == set(Envelope.__struct_fields__)
    assert SCHEMA["$defs"]["Reason"]["enum"] == [reason.value for reason in Reason]
    assert SCHEMA["$defs"]["Status"]["enum"] == [status.value for status in Status]


def test_every_limit_of_the_contract_shows_in_the_schema() -> None:
    """Move one limit and the schema moves; those of the body as a whole are not an event's."""
    of_the_body = {"body_bytes", "inflated_bytes"}
    for name in set(Limits.__struct_fields__) - of_the_body:
        moved = msgspec.structs.replace(limits(), **{name: getattr(limits(), name) + 1})
        assert event_schema(moved) != SCHEMA, name


def bodies() -> list[tuple[str, Any, list[dict[str, Any]]]]:
    return [(name, case["body"], case["answer"]) for name, case in CASES.items() if "body" in case and "answer" in case]


@pytest.mark.parametrize(
    ("name", "body", "answer"), bodies(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_schema_and_service_agree_on_every_case(name: str, body: Any, answer: list[dict[str, Any]]) -> None:
    events = body if isinstance(body, list) else body.get("events", [])
    marked = [verdict.get("by_schema", False) for verdict in answer]
    assert [not EVENT.is_valid(event) for event in events] == marked
    assert BODY.is_valid(body) is not any(marked)
    assert all(verdict["status"] != "accepted" for verdict in answer if verdict.get("by_schema"))


@pytest.mark.parametrize("body", [{}, {"batch_id": "b"}, {"events": {}}, 5, "[]", None])
def test_body_without_events_or_receipts_is_none_by_schema(body: Any) -> None:
    assert not BODY.is_valid(body)


def test_test_kit_makes_events_of_the_schema() -> None:
    assert EVENT.is_valid(wire_event())


def test_openapi_refers_to_the_same_schemas() -> None:
    ours = json.dumps(SCHEMA["$defs"]["WireEvent"]).replace("#/$defs/", "#/components/schemas/")
    assert components(limits(), "#/components/schemas/{name}")["WireEvent"] == json.loads(ours)
