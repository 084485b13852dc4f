"""A rollout is changed field by field, within limits that the refusal names, and read by clients as one document."""

import json
from typing import Any

import pytest

from twintrack.control.rollout import BATCH_LIMITS, MOST_SAMPLED_NAMES, Rollout, changed, document
from twintrack.errors import RequestError


def test_document_has_every_field_of_the_contract() -> None:
    assert json.loads(document(Rollout()).body) == {
        "version": 1,
        "kill": False,
        "queue": "drain",
        "share": 1.0,
        "gate": None,
        "sampling": {"default": 1.0, "events": {}},
        "batch": {"events": 50, "bytes": 49152, "interval_milliseconds": 2000},
        "endpoint": None,
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"kill": True},
        {"queue": "discard"},
        {"share": 0.01},
        {"share": 0},
        {"gate": "backend_on"},
        {"endpoint": "https://events.example.com/e"},
        {"endpoint": "/t/e"},
        {"batch": {"events": 1}},
        {"sampling": {"default": 0.5}},
        {"sampling": {"events": {"mouse_move": 0.1}}},
    ],
)
def test_change_is_one_version_later_and_has_a_tag_of_its_own(changes: dict[str, Any]) -> None:
    before = Rollout(version=7)
    after = changed(before, changes)
    assert after.version == 8
    assert document(after).tag != document(before).tag
    again = changed(after, {name: getattr(before, name) for name in changes} if "sampling" not in changes else {})
    assert again.version == 9


def test_parts_of_batch_and_sampling_leave_the_rest() -> None:
    one = changed(Rollout(), {"batch": {"events": 5}, "sampling": {"events": {"a": 0.1, "b": 0.2}}})
    two = changed(one, {"batch": {"bytes": 2048}, "sampling": {"default": 0.5, "events": {"a": None, "c": 0.3}}})
    assert (two.batch.events, two.batch.bytes) == (5, 2048)
    assert (two.sampling.default, two.sampling.events) == (0.5, {"b": 0.2, "c": 0.3})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"share": 1.1}, "share must lie in 0..1"),
        ({"share": -0.1}, "share must lie in 0..1"),
        ({"share": float("nan")}, "share must lie in 0..1"),
        ({"share": "half"}, "share"),
        ({"queue": "wait"}, "drain, discard"),
        ({"sampling": {"default": 2}}, "sampling"),
        ({"sampling": {"events": {"a": 2}}}, "sampled"),
        ({"sampling": {"events": {"": 0.5}}}, "event_name_characters"),
        ({"sampling": {"events": {"x" * 201: 0.5}}}, "200"),
        ({"sampling": {"events": {str(n): 0.5 for n in range(MOST_SAMPLED_NAMES + 1)}}}, "200"),
        ({"sampling": 5}, "sampling"),
        ({"batch": {"events": 0}}, "batch events must lie in 1..1000"),
        ({"batch": {"bytes": 1}}, "batch bytes must lie in 1024"),
        ({"batch": {"interval_milliseconds": 1}}, "100..600000"),
        ({"batch": {"events": "many"}}, "batch.events"),
        ({"gate": ""}, "1 to 200 characters"),
        ({"gate": "x" * 201}, "1 to 200 characters"),
        ({"endpoint": "http://events.example.com"}, "https://"),
        ({"endpoint": "//evil.example"}, "https://"),
        ({"endpoint": "/\\evil.example"}, "https://"),
        ({"endpoint": "https:///x"}, "https://"),
        ({"endpoint": "javascript:alert(1)"}, "https://"),
        ({"endpoint": "/a b"}, "https://"),
        ({"endpoint": "/" + "x" * 4096}, "url_characters"),
        ({"version": 1}, "no such field"),
        ({"colour": "red"}, "no such field"),
    ],
)
def test_value_out_of_its_limits_is_refused_and_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError) as refused:
        changed(Rollout(), changes)
    assert said in refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize(("field", "bounds"), BATCH_LIMITS.items())
def test_batch_sizes_may_be_as_small_and_as_large_as_their_limits(field: str, bounds: tuple[int, int]) -> None:
    for value in bounds:
        assert getattr(changed(Rollout(), {"batch": {field: value}}).batch, field) == value


def test_gate_takes_the_share_from_the_server() -> None:
    assert Rollout(share=0.1).shared == 0.1
    assert Rollout(share=0.1, gate="on").shared == 1
    assert not Rollout(share=0.1).keeps_all
    assert Rollout(share=0.1, gate="on").keeps_all
