"""Deadlines are said twice, in SQL for rows of the store and in Python for rows of a chunk: both say the same."""

import random
from uuid import UUID

import msgspec
import pytest

from tests.server import Server
from twintrack.control.retention import KEPT, MESSAGE, NONE, Policies, policies_of
from twintrack.event import Row
from twintrack.load.deadlines import columns, field_is_due, left_of, quoted, rewritten, without

NOW = 1_770_638_400  # 2026-02-09 12:00 UTC
DAY = 86_400
ENCODER = msgspec.json.Encoder()
POLICIES = policies_of(
    [
        ("shop", "", "", 30),
        ("shop", "buy", "", None),
        ("shop", "it's \\ a\n'name'", "", 2),
        ("shop", "", MESSAGE, 5),
        ("shop", "buy", MESSAGE, 1),
        ("shop", "", "metadata.mail", 3),
        ("o'neill", "", "", 36_500),
        ("o'neill", "move", "", 1),
        ("texts", "", MESSAGE, 1),
    ]
)
PROJECTS = ("shop", "o'neill", "texts", "other")
NAMES = ("buy", "move", "it's \\ a\n'name'", "")


def row(project: str, name: str, happened: float, received: float, source: str, **more: object) -> bytes:
    plain = Row(
        project, "live", UUID(int=1), name, happened, "u", "a", "s", "claimed", 0, None,
        {"mail": "x", "mail.box": 1, "mailbox": 2, "deep": {"mail": 3}}, "text", 4, None, happened, received, "::", "",
        False, "", "", "", "", "", 0, 0, "", source, [], "", None, [],
    )  # fmt: skip
    return ENCODER.encode(msgspec.structs.replace(plain, **more))


def _moment(seconds: float) -> str:
    return f"fromUnixTimestamp64Milli(toInt64({round(seconds * 1000)}), 'UTC')"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> object:
    opened = Server(tmp_path_factory.mktemp("engine") / "engine")
    yield opened
    opened.close()


def test_store_and_manifest_agree_on_every_row(server: Server) -> None:
    source = random.Random(7)
    cases = [
        (
            source.choice(PROJECTS),
            source.choice(NAMES),
            round(NOW - source.choice((0, 1, 2, 3, 5, 30, 400, 20_000)) * DAY + source.uniform(-2, 2), 3),
            round(NOW - source.choice((0, 1, 2, 30)) * DAY + source.uniform(-2, 2), 3),
            source.choice(("sdk", "import", KEPT)),
        )
        for _ in range(400)
    ]
    cells = ", ".join(
        f"({quoted(project)}, {quoted(name)}, {_moment(happened)}, {_moment(received)}, '{way}')"
        for project, name, happened, received, way in cases
    )
    shape = (
        "project LowCardinality(String), event_name LowCardinality(String), event_timestamp DateTime64(3, ''UTC''),"
        " server_timestamp DateTime64(3, ''UTC''), source LowCardinality(String)"
    )
    due = ", ".join(f"ifNull({e} <= toDateTime({NOW}, 'UTC'), 0)" for e in columns(POLICIES).values())
    told = server.store.select(f"SELECT {due} FROM values('{shape}', {cells})").rows
    seen = set()
    for case, (gone, textless) in zip(cases, told, strict=True):
        left = left_of(row(*case), POLICIES, NOW)
        assert (left is None) == bool(gone), case
        if left is not None:
            cell = msgspec.json.decode(left)[Row.__struct_fields__.index("message_content")]
            assert (cell is None) == bool(textless), case
        seen.add((gone, textless))
    assert len(seen) == 4  # every kind was there


@pytest.mark.parametrize("policies", [NONE, policies_of([("shop", "", "metadata.x", 1)])])
def test_rows_without_a_rule_of_their_own_have_no_deadline(policies: Policies) -> None:
    assert set(columns(policies).values()) <= {"NULL"}
    assert rewritten(policies) == {"expires_at": "NULL", "message_expires_at": "NULL"}


def test_field_goes_with_what_is_nested_in_it_and_nothing_else(server: Server) -> None:
    old = row("shop", "buy", NOW - 4 * DAY, NOW, "sdk", message_content=None)
    left = left_of(old, POLICIES, NOW)
    assert left is not None
    kept = msgspec.json.decode(left)[Row.__struct_fields__.index("event_metadata")]
    assert kept == {"mailbox": 2, "deep": {"mail": 3}}
    document = '{"mail":{"a":1},"mailbox":2,"deep":{"mail":3},"text":"it\\\\"s","list":[1,"x"]}'
    asked = f"SELECT toString({without('metadata.mail')}), {field_is_due(POLICIES, 'metadata.mail', NOW)}"
    from_row = (
        f"(SELECT CAST('{document}', 'JSON(max_dynamic_paths = 256)') AS event_metadata, 'shop' AS project,"
        f" 'buy' AS event_name, toDateTime64({NOW - 4 * DAY}, 3, 'UTC') AS event_timestamp,"
        f" toDateTime64({NOW}, 3, 'UTC') AS server_timestamp, 'sdk' AS source)"
    )
    text, due = server.store.select(f"{asked} FROM {from_row}").rows[0]
    assert due and msgspec.json.decode(text) == {
        "mailbox": 2,
        "deep": {"mail": 3},
        "text": 'it"s',
        "list": [1, "x"],
    }


def test_row_that_nothing_is_due_of_is_left_byte_for_byte() -> None:
    line = row("shop", "buy", NOW, NOW, "sdk")
    assert left_of(line, POLICIES, NOW) is line
    assert left_of(row("other", "buy", 5.0, NOW, "sdk"), POLICIES, NOW) is not None
