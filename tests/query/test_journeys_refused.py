"""What cannot be asked of funnels, retention, life cycles, paths, threads and cohorts is refused with a hint."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Service, running
from tests.query.stage import SHOP
from twintrack.auth import Role
from twintrack.errors import RequestError
from twintrack.pii import pseudonym
from twintrack.query.cohort import named
from twintrack.query.compile.actors import Point
from twintrack.query.compile.statement import Parameters
from twintrack.query.kinds import KINDS
from twintrack.query.scope import Scope
from twintrack.testing import wire_event

NOW = 1_700_000_000_000
TWO: Any = [{"event": "a"}, {"event": "b"}]
DEEP: Any = {"did": {}}
for _ in range(8):
    DEEP = {"not": DEEP}

REFUSED: list[tuple[str, Any, str]] = [
    ("funnel", {"steps": TWO[:1]}, "bad_funnel"),
    ("funnel", {"steps": []}, "bad_funnel"),
    ("funnel", {"steps": TWO[:1] * 21}, "bad_funnel"),
    ("funnel", {"steps": TWO, "window_seconds": 0}, "bad_funnel"),
    ("funnel", {"steps": TWO, "window_seconds": -5}, "bad_funnel"),
    ("funnel", {"steps": TWO, "window_seconds": 10**12}, "bad_funnel"),
    ("funnel", {"steps": TWO, "breakdown": ["event_name"] * 2}, "bad_breakdown"),
    ("funnel", {"steps": TWO, "breakdown": ["no_such_column"]}, "unknown_property"),
    ("funnel", {"steps": TWO, "per": "session", "floor": 5}, "bad_floor"),
    (
        "funnel",
        {"steps": TWO, "range": {"from": "2014-01-01", "to": "2023-11-01"}, "interval": "hour"},
        "too_many_buckets",
    ),
    ("funnel", {"steps": TWO, "filter": {"cohort": "nobody's"}}, "unknown_cohort"),
    ("funnel", {"steps": [{"event": ""}, {"event": "b"}]}, "bad_event"),
    ("retention", {"periods": 0}, "bad_retention"),
    ("retention", {"periods": 5_000}, "bad_retention"),
    ("retention", {"periods": 366, "interval": "day", "range": {"last": 365}}, "bad_retention"),
    ("lifecycle", {"interval": "day", "range": {"from": "2005-01-01", "to": "2023-11-01"}}, "too_many_buckets"),
    ("stickiness", {"interval": "hour", "range": {"last": 60}}, "too_many_buckets"),
    ("paths", {"steps": 50}, "bad_paths"),
    ("paths", {"steps": 1}, "bad_paths"),
    ("paths", {"top": 0}, "bad_paths"),
    ("paths", {"from": "a", "to": "b"}, "bad_paths"),
    ("threads", {"idle_seconds": 0}, "bad_threads"),
    ("threads", {"idle_seconds": 10**12}, "bad_threads"),
    ("cohorts", {}, "bad_question"),
    ("cohorts", {"cohort": "a", "definition": {"persons": []}}, "bad_question"),
    ("cohorts", {"cohort": "a"}, "unknown_cohort"),
    ("cohorts", {"definition": DEEP}, "bad_cohort"),
    ("cohorts", {"definition": {"funnel": {"steps": TWO, "per": "session"}, "step": 1}}, "bad_cohort"),
    ("cohorts", {"definition": {"funnel": {"steps": TWO}, "step": 3}}, "bad_funnel"),
    ("cohorts", {"definition": {"has": {"property": "nothing"}}}, "unknown_property"),
]


@pytest.mark.parametrize("kind,question,code", REFUSED, ids=[f"{n}-{k}-{c}" for n, (k, _, c) in enumerate(REFUSED)])
def test_question_that_cannot_be_answered_is_refused_with_a_hint(kind: str, question: Any, code: str) -> None:
    with pytest.raises(RequestError) as refused:
        KINDS[kind].model_validate(question).plan(Scope(SHOP, Role.OWNER, NOW, 0))
    assert refused.value.code == code and 400 <= refused.value.status < 500
    assert refused.value.hint


@pytest.mark.parametrize("role", [Role.READ, Role.VIEWER])
def test_cohort_by_a_text_that_the_role_may_not_see_is_refused(role: Role) -> None:
    asked = {"definition": {"has": {"property": "message_content", "operator": "contains", "value": "order"}}}
    with pytest.raises(RequestError) as refused:
        KINDS["cohorts"].model_validate(asked).plan(Scope(SHOP, role, NOW, 0))
    assert refused.value.code == "hidden_property"


# Conditions that a role without people or without text could not have written itself.
_NAMES_PEOPLE: list[Any] = [
    {"persons": ["ann"]},
    {"not": {"persons": ["ann"]}},
    {"all": [{"persons": ["ann"]}, {"did": {"event": "buy"}}]},
    {"did": {"filter": {"property": "user_id", "value": "ann"}}},
    {"has": {"property": "person", "value": "ann"}},
    {"did": {"filter": {"property": "message_content", "operator": "contains", "value": "divorce"}}},
    {"funnel": {"steps": TWO, "filter": {"property": "user_id", "value": "ann"}}, "step": 1},
    {"did": {"filter": {"cohort": "kept"}}},
]


@pytest.mark.parametrize("role", [Role.READ, Role.VIEWER, Role.ANALYST, Role.ADMIN])
@pytest.mark.parametrize("place", range(len(_NAMES_PEOPLE)))
def test_cohort_that_names_people_is_asked_by_no_role_that_does_not_see_them(role: Role, place: int) -> None:
    definition = _NAMES_PEOPLE[place]
    cohorts = named({"kept": {"persons": ["ann"]}, "of another": definition})
    scope = Scope(SHOP, role, NOW, 0, cohorts)
    filtered = {"filter": {"not": {"cohort": "of another"}}}
    asked: list[tuple[str, Any]] = [
        ("cohorts", {"definition": definition}),
        ("cohorts", {"cohort": "of another"}),
        ("funnel", {"steps": [{"event": "a"}, {"event": "b", **filtered}]}),
        *((kind, filtered) for kind in KINDS if kind not in ("actors", "cohorts", "funnel")),
        *(("actors", {"of": {"kind": kind, **filtered}}) for kind in ("trends", "sessions", "events")),
    ]
    for kind, question in asked:
        with pytest.raises(RequestError) as refused:
            KINDS[kind].model_validate(question).plan(scope)
        assert refused.value.code in ("hidden_property", "hidden_people"), kind
        KINDS[kind].model_validate(question).plan(Scope(SHOP, Role.PRIVACY, NOW, 0, cohorts))


def _of_each_other(count: int, *, each: int) -> dict[str, Any]:
    made: dict[str, Any] = {"c0": {"did": {}}}
    for n in range(1, count):
        made[f"c{n}"] = {"did": {"filter": {"any": [{"cohort": f"c{n - 1}"}] * each}}}
    return made


# None of them holds a value: what they cost is seen in their parts and their SQL alone.
_SET: Any = {"property": "user_id", "operator": "is set"}
_LONG: Any = {"property": "event_metadata." + ".".join(["deep"] * 30), "operator": "is not set"}
TOO_LARGE: list[tuple[str, Any, str]] = [
    ("cohorts", {"cohort": "c2"}, "conditions"),
    ("trends", {"filter": {"cohort": "c4"}}, "conditions"),
    ("trends", {"series": [{"filter": {"cohort": "c1"}}] * 5}, "conditions"),
    ("funnel", {"steps": [{"filter": {"cohort": "c1"}}] * 9}, "conditions"),
    ("trends", {"filter": {"any": [{"any": [_SET] * 100}] * 100}}, "conditions"),
    ("cohorts", {"definition": {"any": [{"any": [{"persons": ["ada"] * 10_000}] * 6}] * 2}}, "values"),
    ("trends", {"series": [{"filter": {"any": [_LONG] * 97}}] * 5}, "bytes of SQL"),
]


@pytest.mark.parametrize("place", range(len(TOO_LARGE)))
def test_question_is_bounded_with_all_that_its_cohorts_are_made_of(place: int) -> None:
    kind, question, which = TOO_LARGE[place]
    scope = Scope(SHOP, Role.OWNER, NOW, 0, named(_of_each_other(6, each=60)))
    with pytest.raises(RequestError) as refused:
        KINDS[kind].model_validate(question).plan(scope)
    assert (refused.value.status, refused.value.code) == (400, "too_large") and refused.value.hint
    assert which in refused.value.message
    KINDS["trends"].model_validate({"filter": {"cohort": "c1"}}).plan(scope)


def test_cohorts_are_made_of_each_other_to_a_depth_that_is_said() -> None:
    scope = Scope(SHOP, Role.OWNER, NOW, 0, named(_of_each_other(9, each=1)))
    KINDS["cohorts"].model_validate({"cohort": "c4"}).plan(scope)
    with pytest.raises(RequestError) as refused:
        KINDS["cohorts"].model_validate({"cohort": "c8"}).plan(scope)
    assert refused.value.code == "bad_cohort" and "5 cohorts" in refused.value.message


def test_what_a_person_wrote_is_never_part_of_the_statement() -> None:
    odd = "'); DROP TABLE analytics.events; --"
    filtered = {"property": "event_metadata.plan", "value": odd}
    asked: list[tuple[str, Any]] = [
        ("funnel", {"steps": [{"event": odd}, {"event": odd, "filter": filtered}]}),
        ("retention", {"start": {"event": odd}, "filter": filtered}),
        ("lifecycle", {"selection": {"event": [odd, "b"]}}),
        ("stickiness", {"selection": {"event": odd}}),
        ("paths", {"from": odd, "exclude": [odd]}),
        ("threads", {"completed": {"event": odd}}),
        ("threads", {"thread": odd}),
        ("cohorts", {"definition": {"any": [{"persons": [odd]}, {"has": filtered}]}}),
    ]
    for kind, question in asked:
        plan = KINDS[kind].model_validate(question).plan(Scope(SHOP, Role.OWNER, NOW, 0))
        assert all("DROP TABLE" not in statement.sql for statement in plan.statements.values()), kind
    assert "DROP TABLE" not in KINDS["paths"].model_validate({"from": odd}).actors(
        Scope(SHOP, Role.OWNER, NOW, 0),
        Parameters(SHOP),
        Point(step=0, group=[odd]),
    )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("cohorts") / "data") as opened:
        yield opened


@pytest.fixture
def service(shared: Service) -> Service:
    return shared.elsewhere()


class _Asking:
    def __init__(self, service: Service) -> None:
        self._service = service

    def __call__(self, method: str, path: str, body: Any = None, key: str = "") -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {key or self._service.owner_key}"}
        answer = self._service.request(method, f"/api/analytics/{path}", json=body, headers=headers)
        return answer.status_code, answer.json() if answer.content else None


def test_cohort_is_kept_used_and_forgotten_over_http(service: Service) -> None:
    asks = _Asking(service)
    mail = "ada@example.com"
    for user in (mail, "grace", "alan"):
        service.send([wire_event(user_id=user, event_name="buy")], service.server_key)
    service.settle()
    # Typed as it was sent, kept in the form that the rows hold.
    status, kept = asks("PUT", "cohorts", {"name": "some", "definition": {"persons": [mail, "alan", "nobody"]}})
    assert (status, kept["name"]) == (200, "some") and kept["meaning"] == "3 named persons"
    status, listed = asks("GET", "cohorts")
    assert status == 200 and listed["cohorts"] == [kept]
    assert mail not in str(listed)
    assert asks("POST", "query/cohorts", {"cohort": "some"})[1]["persons"] == 2
    filtered = {"series": [{"measure": "persons"}], "filter": {"not": {"cohort": "some"}}}
    assert asks("POST", "query/trends", filtered)[1]["series"][0]["total"] == 1
    assert asks("DELETE", "cohorts", {"name": "some"})[0] == 204
    assert asks("DELETE", "cohorts", {"name": "some"})[0] == 404
    assert asks("POST", "query/trends", filtered)[1]["error"]["code"] == "unknown_cohort"


@pytest.mark.parametrize(
    "name,definition,code",
    [
        ("", {"persons": []}, "bad_name"),
        ("a/b", {"persons": []}, "bad_name"),
        ("a", {"persons": "ada"}, "bad_cohort"),
        ("a", {"nothing": 1}, "bad_cohort"),
        ("a", {"did": {"filter": {"cohort": "a"}}}, "unknown_cohort"),
        ("a", {"has": {"property": "nothing"}}, "unknown_property"),
    ],
)
def test_cohort_that_cannot_be_asked_is_not_kept(service: Service, name: str, definition: Any, code: str) -> None:
    asks = _Asking(service)
    status, body = asks("PUT", "cohorts", {"name": name, "definition": definition})
    assert (status, body["error"]["code"]) == (400, code) and body["error"]["hint"]
    assert asks("GET", "cohorts")[1] == {"cohorts": []}


def test_cohort_is_kept_only_by_who_may(service: Service) -> None:
    asks = _Asking(service)
    body = {"name": "a", "definition": {"persons": []}}
    assert asks("PUT", "cohorts", body, service.read_key)[0] == 403
    assert asks("GET", "cohorts", None, service.read_key)[0] == 200
    assert asks("GET", "cohorts", None, service.write_key)[0] == 403


def test_kept_cohort_tells_a_role_that_sees_no_people_only_what_that_role_could_have_asked(service: Service) -> None:
    asks = _Asking(service)
    text = {"property": "message_content", "operator": "contains", "value": "divorce"}
    kept = {
        "a list": {"persons": ["ann"]},
        "a text": {"did": {"filter": text}},
        "a user": {"has": {"property": "user_id", "value": "ann"}},
        "another one": {"did": {"filter": {"cohort": "a list"}}},
        "buyers": {"did": {"event": "buy"}},
    }
    for name, definition in kept.items():
        assert asks("PUT", "cohorts", {"name": name, "definition": definition})[0] == 200
    for key in (service.key_of(Role.ANALYST), service.key_of(Role.ADMIN), service.read_key):
        shown = {one["name"]: one for one in asks("GET", "cohorts", None, key)[1]["cohorts"]}
        assert shown.keys() == kept.keys() and "ann" not in str(shown) and "divorce" not in str(shown)
        assert [name for name, one in shown.items() if one["definition"] is not None] == ["buyers"]
        assert shown["buyers"]["meaning"] == "at least 1 events named buy ever"
        for name in kept.keys() - {"buyers"}:
            status, answer = asks("POST", "query/trends", {"filter": {"cohort": name}}, key)
            assert (status, answer["error"]["code"]) == (400, "hidden_property") and "ann" not in str(answer)
        assert asks("POST", "query/trends", {"filter": {"cohort": "buyers"}}, key)[0] == 200
        assert asks("POST", "query/cohorts", {"definition": {"persons": ["ann"]}}, key)[0] == 400
    whole = asks("GET", "cohorts")[1]["cohorts"]
    assert {one["name"]: one["definition"] for one in whole} == kept


def test_stored_form_of_an_identifier_is_told_to_nobody_who_sees_no_people(service: Service) -> None:
    asks, mail = _Asking(service), "ann@example.com"
    form = pseudonym(mail, service.services.control.project(service.project).secret)
    analyst = service.key_of(Role.ANALYST)
    of_browser = {"has": {"property": "anonymous_id", "value": mail}}
    of_metadata = {"has": {"property": "event_metadata.mail", "operator": "in", "value": [mail]}}
    labelled = {"funnel": {"steps": [{"event": "a", "label": f"seen by {mail}"}, {"event": "b"}]}, "step": 1}
    for definition in ({"persons": [mail]}, of_browser, of_metadata, labelled):
        status, answer = asks("PUT", "cohorts", {"name": "guess", "definition": definition}, analyst)
        assert status == 400 and answer["error"]["code"] in ("hidden_property", "masked_value")
        assert form not in str(answer) and mail not in str(answer)
    assert asks("GET", "cohorts")[1] == {"cohorts": []}
    # Who sees people has them kept as the rows are; what no row can hold is refused to everybody.
    status, kept = asks("PUT", "cohorts", {"name": "browser", "definition": of_browser})
    assert (status, kept["definition"]["has"]["value"]) == (200, form)
    assert asks("PUT", "cohorts", {"name": "mail", "definition": of_metadata})[1]["error"]["code"] == "masked_value"
    assert asks("PUT", "cohorts", {"name": "078-05-1120", "definition": {"did": {}}})[0] == 400


def test_identifier_is_asked_about_as_it_was_sent_by_who_sees_people_alone(service: Service) -> None:
    asks, mail = _Asking(service), "Ada@example.com"
    thread = {"event_name": "message_sent", "message_content": "hello", "thread_id": f"about {mail}"}
    service.send([wire_event(user_id=mail, anonymous_id=mail, **thread)], service.server_key)
    service.send([wire_event(user_id="grace", anonymous_id="b1")], service.server_key)
    service.settle()
    form = pseudonym(mail, service.services.control.project(service.project).secret)

    def count(condition: Any, key: str = "") -> int:
        filtered = {"filter": {"property": "anonymous_id", **condition}}
        found: int = asks("POST", "query/trends", filtered, key)[1]["series"][0]["total"]
        return found

    for person in (mail, form):
        timeline = asks("POST", "query/users", {"person": person})[1]
        assert timeline["summary"]["events"] == 1 and [row[4] for row in timeline["rows"]] == [form]
        assert [row[0] for row in asks("POST", "query/users", {"search": person})[1]["rows"]] == [form]
        assert asks("POST", "query/cohorts", {"definition": {"persons": [person]}})[1]["persons"] == 1
        assert count({"property": "user_id", "value": person}) == 1
        assert count({"property": "person", "operator": "!=", "value": person}) == 1
        assert count({"operator": "in", "value": ["b1", person]}) == 2
        assert count({"operator": "not in", "value": [person]}) == 1
    assert len(asks("POST", "query/threads", {"thread": thread["thread_id"]})[1]["rows"]) == 1
    # A role that sees no people learns of no address whether it is there: what it types is compared as it is.
    analyst = service.key_of(Role.ANALYST)
    assert count({"value": mail}, analyst) == 0 and count({"value": form}, analyst) == 1
    assert count({"operator": "!=", "value": mail}, analyst) == 2
    assert asks("POST", "query/threads", {"thread": thread["thread_id"]}, analyst)[1]["rows"] == []
