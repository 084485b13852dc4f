"""What the server adds: whose address it was, how much of it is kept, whose event it is, and when it happened."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from twintrack.clock import iso, milliseconds_of
from twintrack.event import RequestContext, Tenancy, WireConsent, WireEvent
from twintrack.ingest.enrich import client_address, clock_skew, cut_address, enrich, identify

NOW = 1_767_614_400_000
SKEW = json.loads((Path(__file__).parents[2] / "contract" / "vectors" / "skew.json").read_text())["vectors"]


def context(**fields: Any) -> RequestContext:
    given = {
        "tenancy": Tenancy("shop", "live"),
        "server_key": False,
        "subject": None,
        "received_milliseconds": NOW,
        "skew_milliseconds": 0,
        "ip_address": "::ffff:203.0.113.0",
        "user_agent": "agent",
        "is_bot": False,
    }
    return RequestContext(**{**given, **fields})


def at(milliseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


def event(**fields: Any) -> WireEvent:
    return WireEvent(UUID(int=7), "click", **fields)


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "client"),
    [
        ("203.0.113.9", "", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "10.0.0.0/8", "203.0.113.9"),
        ("10.0.0.1", "", "10.0.0.0/8", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1", "10.0.0.0/8", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, 10.0.0.2", "10.0.0.0/8", "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1", "10.0.0.0/8", "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1, 10.0.0.2", "10.0.0.0/8, 192.168.0.0/16", "198.51.100.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.0/8", "10.0.0.3"),
        ("10.0.0.1", "nonsense", "10.0.0.0/8", ""),
        ("10.0.0.1", "1.1.1.1, nonsense", "10.0.0.0/8", ""),
        ("10.0.0.1", " , ,198.51.100.1, ", "10.0.0.0/8", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1:4711", "10.0.0.0/8", "198.51.100.1"),
        ("10.0.0.1", "[2001:db8::1]:4711", "10.0.0.0/8", "2001:db8::1"),
        ("10.0.0.1", "[2001:db8::1]", "10.0.0.0/8", "2001:db8::1"),
        ("10.0.0.1", "fe80::1%eth0", "10.0.0.0/8", "fe80::1"),
        ("::ffff:10.0.0.1", "198.51.100.1", "10.0.0.0/8", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, ::ffff:10.0.0.2", "10.0.0.0/8", "198.51.100.1"),
        ("2001:db8:ffff::1", "2001:db8:1::7", "2001:db8:ffff::/48", "2001:db8:1::7"),
        ("", "198.51.100.1", "10.0.0.0/8", ""),
        ("testclient", "198.51.100.1", "10.0.0.0/8", ""),
    ],
)
def test_client_is_the_nearest_hop_that_no_configured_proxy_vouches_for(
    peer: str, forwarded: str, trusted: str, client: str
) -> None:
    assert client_address(peer, forwarded, trusted) == client


@pytest.mark.parametrize(
    ("address", "cut", "full"),
    [
        ("203.0.113.77", "::ffff:203.0.113.0", "::ffff:203.0.113.77"),
        ("::ffff:203.0.113.77", "::ffff:203.0.113.0", "::ffff:203.0.113.77"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::", "2001:db8:1:2:3:4:5:6"),
        ("fe80::1%eth0", "fe80::", "fe80::1"),
        ('fe80::1%"] , x', "fe80::", "fe80::1"),
        ("203.0.113.77:80", "::ffff:203.0.113.0", "::ffff:203.0.113.77"),
        ("", "::", "::"),
        ("nonsense", "::", "::"),
        ("203.0.113.777", "::", "::"),
    ],
)
def test_address_is_cut_unless_kept_and_always_one_that_the_store_takes(address: str, cut: str, full: str) -> None:
    """A zone behind an address was refused by the store, which held up every event of its chunk."""
    assert cut_address(address, keep_full=False) == cut
    assert cut_address(address, keep_full=True) == full


@pytest.mark.parametrize(
    ("server", "subject", "user", "anonymous", "found"),
    [
        (False, "ann", "ann", "a", ("ann", "verified")),
        (False, "ann", "ann", None, ("ann", "verified")),
        (False, "ann", "bob", "a", ("bob", "claimed")),
        (False, "ann", "Ann", "a", ("Ann", "claimed")),
        (False, "ann", None, None, ("ann", "verified")),
        (False, "ann", "", None, ("ann", "verified")),
        (False, "ann", None, "a", ("", "anonymous")),
        (False, None, "ann", "a", ("ann", "claimed")),
        (False, None, None, "a", ("", "anonymous")),
        (False, None, None, None, ("", "anonymous")),
        (True, None, "ann", None, ("ann", "server")),
        (True, "bob", "ann", None, ("ann", "server")),
        (True, None, None, "a", ("", "anonymous")),
        (True, "bob", None, None, ("", "anonymous")),
    ],
)
def test_identity_follows_the_table_of_the_design(
    server: bool, subject: str | None, user: str | None, anonymous: str | None, found: tuple[str, str]
) -> None:
    asked = context(server_key=server, subject=subject)
    assert identify(event(user_id=user, anonymous_id=anonymous), asked) == found


@pytest.mark.parametrize("vector", SKEW, ids=lambda v: v["name"])
def test_times_follow_the_vectors_of_the_contract(vector: dict[str, Any]) -> None:
    def moment(name: str) -> datetime | None:
        return None if vector[name] is None else datetime.fromisoformat(vector[name])

    received, sent = moment("received_at"), moment("sent_at")
    assert received is not None
    skew = clock_skew(milliseconds_of(received), None if sent is None else milliseconds_of(sent))
    assert skew == vector["correction_milliseconds"]
    asked = context(received_milliseconds=milliseconds_of(received), skew_milliseconds=skew)
    row = enrich(event(client_timestamp=moment("client_timestamp")), asked, "1")
    assert iso(round(row.event_timestamp * 1000)) == vector["event_timestamp"]
    assert row.server_timestamp * 1000 == milliseconds_of(received)


def test_wild_sent_at_moves_no_event_that_names_no_time() -> None:
    """`sent_at` in 1970 put such events 56 years ahead, behind every check."""
    row = enrich(event(), context(skew_milliseconds=clock_skew(NOW, 0)), "1")
    assert row.event_timestamp == row.client_timestamp == row.server_timestamp == NOW / 1000


def test_row_of_a_bare_event_has_no_surprises() -> None:
    row = enrich(event(), context(), "1")
    assert (row.project, row.environment, row.identity) == ("shop", "live", "anonymous")
    assert (row.message_content, row.message_length, row.event_value, row.thread_id) == (None, None, None, None)
    assert (row.event_metadata, row.masked, row.page_url, row.viewport_width) == ({}, [], "", 0)


def test_length_of_a_message_is_taken_before_masking_and_in_characters() -> None:
    assert enrich(event(message_content="a\U0001f600b"), context(), "1").message_length == 3
    assert enrich(event(message_content=""), context(), "1").message_length == 0


GRANT = NOW - 3_600_000


@pytest.mark.parametrize(
    ("consent", "skew", "stored"),
    [
        (None, 0, ("", None, [])),
        ("granted", 0, ("granted", None, [])),
        (WireConsent("granted"), 0, ("granted", None, [])),
        (WireConsent("granted", at(GRANT)), 0, ("granted", GRANT / 1000, [])),
        (WireConsent("granted", at(GRANT), ["gtm"]), 60_000, ("granted", (GRANT + 60_000) / 1000, ["gtm"])),
        (WireConsent("granted", None, ["gtm", "nobody", "statsig", "gtm"]), 0, ("granted", None, ["statsig", "gtm"])),
        # A grant lies neither ahead nor before 1970: there the clock was right when it was given.
        (WireConsent("granted", at(GRANT)), 7_200_000, ("granted", GRANT / 1000, [])),
        (WireConsent("granted", at(5_000)), -7_200_000, ("granted", 5.0, [])),
    ],
)
def test_consent_is_stored_with_its_time_and_the_vendors_it_does_not_hold_for(
    consent: str | WireConsent | None, skew: int, stored: tuple[str, float | None, list[str]]
) -> None:
    row = enrich(event(consent=consent), context(skew_milliseconds=skew), "")
    assert (row.consent, row.consent_at, row.consent_denied) == stored


@pytest.mark.parametrize(
    ("metadata", "agent_is_bot", "marked"),
    [
        ({"tt_automation": True}, False, True),
        ({"tt_automation": True}, True, True),
        ({}, True, True),
        (None, False, False),
        ({"tt_automation": False}, False, False),
        ({"tt_automation": "true"}, False, False),
        ({"tt_automation": 1}, False, False),
        ({"nested": {"tt_automation": True}}, False, False),
    ],
)
def test_event_of_a_driven_browser_is_marked_and_kept(
    metadata: dict[str, Any] | None, agent_is_bot: bool, marked: bool
) -> None:
    row = enrich(event(event_metadata=metadata), context(is_bot=agent_is_bot), "")
    assert (row.is_bot, row.event_metadata) == (marked, metadata or {})
