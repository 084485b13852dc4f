"""Every way in, over HTTP and by command, and the record that it leaves. Who adds a way says here what it records, or why
nothing: taking one record out fails, and so does a way that stands in neither table."""

import asyncio
import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import httpx2 as httpx
import pytest

from tests.conftest import Service, running
from tests.privacy.test_audit import entries
from tests.query.test_tail import Listener
from twintrack.app import create_app
from twintrack.auth import Role
from twintrack.commands import command_app
from twintrack.control.sessions import Session
from twintrack.demo import DEMO, SignInLink
from twintrack.permissions import PERMISSIONS
from twintrack.privacy.subject import mark_of
from twintrack.query.kinds import KINDS
from twintrack.testing import wire_event

PEOPLE = ("ann", "ben", "cyd", "dot", "eve")
SPAN = {"range": {"last": 2}}
BUY = {"event": "buy"}
QUESTIONS: dict[str, dict[str, Any]] = {
    "trends": {**SPAN, "series": [BUY]},
    "funnel": {**SPAN, "steps": [BUY, {"event": "pay"}]},
    "retention": {**SPAN, "start": BUY, "back": BUY},
    "lifecycle": SPAN,
    "stickiness": SPAN,
    "paths": SPAN,
    "threads": SPAN,
    "cohorts": {"definition": {"did": BUY}},
    "sessions": SPAN,
    "users": SPAN,
    "events": SPAN,
    "properties": SPAN,
    "actors": {"of": {"kind": "trends", **SPAN, "series": [BUY]}},
}


class Stage:
    """One service with a few events, a member and keys, and both doors of it."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.service, self.folder = service, folder
        self.control = service.services.control
        self.event = wire_event(event_name="buy", user_id="ann")
        service.send(
            [self.event, *(wire_event(event_name="buy", user_id=one) for one in PEOPLE[1:])], service.server_key
        )
        service.settle()
        self.commands = command_app(service.services)
        principal = self.control.principal(service.owner_key)
        assert principal is not None
        self.who = principal.key_id

    def http(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        headers = headers or {"Authorization": f"Bearer {self.service.owner_key}"}
        return self.service.request(method, path, json=body, headers=headers)

    def command(self, method: str, path: str, body: Any = None) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.commands)
            async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
                return await client.request(method, path, json=body)

        return asyncio.run(ask())

    def member(self) -> str:
        email = f"{uuid4().hex}@example.com"
        return self.control.people.accept(self.control.people.invite(email, "demo", Role.VIEWER, 1)[0], "")[0]

    def email_of(self, person: str) -> str:
        return next(str(one["email"]) for one in self.control.people.list() if one["id"] == person)

    def key(self) -> str:
        made = self.control.principal(self.control.create_key(Role.READ, *DEMO))
        assert made is not None
        return made.key_id

    def session(self, session: Session) -> dict[str, str]:
        secret = self.control.sessions.open(session, 1)
        return {"Cookie": f"twintrack_session={secret}", "Sec-Fetch-Site": "same-origin"}

    def tail(self) -> None:
        async def scene() -> None:
            async with Listener(self.service, self.service.owner_key) as one:
                await one.until(lambda listener: listener.said != b"")

        asyncio.run(scene())

    def demo_sign_in(self) -> httpx.Response:
        link = SignInLink()
        app = create_app(self.service.services, demo_link=link)

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.get(f"/sign-in?token={link.token}")

        return asyncio.run(ask())

    def exported(self) -> httpx.Response:
        wanted = {"since": None, "until": None, "project": "demo", "environment": None, "most_rows": 100}
        plan = self.command("POST", "/export/plan", wanted).json()
        body = {**wanted, "as_of_milliseconds": plan["as_of_milliseconds"], "piece": plan["pieces"][0]}
        return self.command("POST", "/export/file", body)

    def imported(self, import_id: str) -> httpx.Response:
        row = {"milliseconds": 1_767_225_600_000, "occurrence": 0, "event": {"event_name": "x", "anonymous_id": "a"}}
        batch = {"import_id": import_id, "project": "demo", "environment": "local", "rows": [row]}
        return self.command("POST", "/import", batch)


CHANGED = ("begun", "done")
ANSWER: Any = "rows of the answer"


class Act(NamedTuple):
    way: str  # as the documentation has it
    what: str
    do: Callable[[Stage], httpx.Response | None]
    outcomes: tuple[str, ...] = ("done",)
    rows: int | None = None  # of the last record; of a file whose rows are counted, those that it holds
    person: str = ""  # whom the record must be found by


def sql_of(output: str, sql: str = "SELECT event_name FROM events WHERE event_name = 'buy'") -> dict[str, Any]:
    return {"sql": sql, "format": output}


HTTP = [
    Act("post /api/session", "session.open", lambda s: s.http("POST", "/api/session", {"key": s.service.owner_key}, a="")),
    Act("delete /api/session", "session.close",
        lambda s: s.http("DELETE", "/api/session", **s.session(Session(s.who, "", DEMO)))),
    Act("put /api/session/password", "person.password",
        lambda s: s.http("PUT", "/api/session/password", {"password": "correct horse battery"},
                         **s.session(Session("", s.member(), DEMO)))),
    Act("get /sign-in", "session.open", lambda s: s.demo_sign_in()),
    Act("get /sign-in", "key.create", lambda s: s.demo_sign_in(), CHANGED),
    Act("get /api/people", "person.list", lambda s: s.http("GET", "/api/people"), rows=ANSWER),
    Act("post /api/people", "person.invite",
        lambda s: s.http("POST", "/api/people", {"email": "new@example.com", "role": "viewer"}), CHANGED),
    Act("put /api/people/{person_id}", "person.role",
        lambda s: s.http("PUT", f"/api/people/{s.member()}", {"role": "analyst"}), CHANGED),
    Act("delete /api/people/{person_id}", "person.remove",
        lambda s: s.http("DELETE", f"/api/people/{s.member()}"), CHANGED),
    Act("post /api/people/{person_id}/link", "person.link",
        lambda s: s.http("POST", f"/api/people/{s.member()}/link"), CHANGED),
    Act("get /api/keys", "key.list", lambda s: s.http("GET", "/api/keys"), rows=ANSWER),
    Act("post /api/keys", "key.create", lambda s: s.http("POST", "/api/keys", {"role": "read"}), CHANGED),
    Act("post /api/keys/{key_id}/rotate", "key.rotate",
        lambda s: s.http("POST", f"/api/keys/{s.key()}/rotate", {}), CHANGED),
    Act("delete /api/keys/{key_id}", "key.revoke", lambda s: s.http("DELETE", f"/api/keys/{s.key()}"), CHANGED),
    Act("post /api/analytics/sql", "sql", lambda s: s.http("POST", "/api/analytics/sql", sql_of("answer")), rows=5),
    Act("post /api/analytics/sql/explain", "sql.explain",
        lambda s: s.http("POST", "/api/analytics/sql/explain", {"sql": "SELECT 1 FROM events"})),
    *(Act("post /api/analytics/sql", "sql.file",
          lambda s, output=output: s.http("POST", "/api/analytics/sql", sql_of(output)), CHANGED, 5)
      for output in ("csv", "json", "parquet")),
    Act("put /api/analytics/saved/{name}", "saved.put",
        lambda s: s.http("PUT", "/api/analytics/saved/one", {"sql": "SELECT 1"})),
    Act("post /api/analytics/saved/{name}", "sql.saved", lambda s: s.http("POST", "/api/analytics/saved/one", {}), rows=1),
    Act("delete /api/analytics/saved/{name}", "saved.delete", lambda s: s.http("DELETE", "/api/analytics/saved/one")),
    *(Act(f"post /api/analytics/query/{kind}", f"query.{kind}",
          lambda s, kind=kind: s.http("POST", f"/api/analytics/query/{kind}", QUESTIONS[kind]), rows=ANSWER)
      for kind in KINDS),
    *(Act(f"post /api/analytics/query/{kind}", f"query.{kind}.file",
          lambda s, kind=kind: s.http("POST", f"/api/analytics/query/{kind}", {**QUESTIONS[kind], "format": "csv"}),
          CHANGED, ANSWER)
      for kind in KINDS),
    Act("get /api/analytics/tail", "tail.read", lambda s: s.tail(), rows=0),
    Act("put /api/analytics/cohorts", "cohort.put",
        lambda s: s.http("PUT", "/api/analytics/cohorts", {"name": "c", "definition": {"did": BUY}}), CHANGED),
    Act("get /api/analytics/cohorts", "cohort.list", lambda s: s.http("GET", "/api/analytics/cohorts"), rows=1),
    Act("delete /api/analytics/cohorts", "cohort.delete",
        lambda s: s.http("DELETE", "/api/analytics/cohorts", {"name": "c"}), CHANGED),
    Act("get /api/analytics/audit", "audit.read", lambda s: s.http("GET", "/api/analytics/audit?limit=7"), rows=7),
    Act("get /api/analytics/live", "live.read", lambda s: s.http("GET", "/api/analytics/live?limit=3"), rows=3),
    Act("get /api/analytics/activity", "activity.read", lambda s: s.http("GET", "/api/analytics/activity"), rows=0),
    Act("get /api/analytics/pipeline", "pipeline.read", lambda s: s.http("GET", "/api/analytics/pipeline"), rows=0),
    Act("get /api/analytics/events/{event_id}", "event.read",
        lambda s: s.http("GET", f"/api/analytics/events/{s.event['event_id']}"), rows=1),
    Act("put /api/analytics/privacy/retention", "retention.change",
        lambda s: s.http("PUT", "/api/analytics/privacy/retention", {"event": "old", "days": 900}), CHANGED),
    Act("post /api/analytics/privacy/consents", "consent.state",
        lambda s: s.http("POST", "/api/analytics/privacy/consents",
                         {"statements": [{"user_id": "ben", "state": "denied"}]}), CHANGED, person="ben"),
    Act("post /api/analytics/privacy/consents/history", "consent.read",
        lambda s: s.http("POST", "/api/analytics/privacy/consents/history", {"user_id": "ben"}), rows=1, person="ben"),
    Act("post /api/analytics/privacy/exports", "person.export",
        lambda s: s.http("POST", "/api/analytics/privacy/exports", {"user_id": "cyd"}), CHANGED, 3, "cyd"),
    Act("post /api/analytics/privacy/erasures", "erasure.request",
        lambda s: s.http("POST", "/api/analytics/privacy/erasures", {"user_id": "dot"}), CHANGED, person="dot"),
    Act("post /api/analytics/privacy/erasures/{request_id}/resume", "erasure.resume",
        lambda s: s.http("POST", "/api/analytics/privacy/erasures/none/resume"), ("begun", "unknown")),
]  # fmt: skip
COMMANDS = [
    Act("POST /keys", "key.create",
        lambda s: s.command("POST", "/keys", {"role": "read", **DEMO._asdict()}), CHANGED),
    Act("POST /keys/rotate", "key.rotate",
        lambda s: s.command("POST", "/keys/rotate", {"id": s.key(), "hours": 1}), CHANGED),
    Act("POST /keys/revoke", "key.revoke", lambda s: s.command("POST", "/keys/revoke", {"id": s.key()}), CHANGED),
    Act("GET /people", "person.list", lambda s: s.command("GET", "/people"), rows=ANSWER),
    Act("POST /people", "person.invite",
        lambda s: s.command("POST", "/people", {"email": "c@example.com", "project": "demo", "role": "viewer", "hours": 1}),
        CHANGED),
    Act("POST /people/link", "person.link",
        lambda s: s.command("POST", "/people/link", {"email": s.email_of(s.member()), "project": "demo", "minutes": 1}),
        CHANGED),
    Act("POST /people/role", "person.role",
        lambda s: s.command("POST", "/people/role",
                            {"email": s.email_of(s.member()), "project": "demo", "role": "analyst"}), CHANGED),
    Act("POST /people/remove", "person.remove",
        lambda s: s.command("POST", "/people/remove", {"email": s.email_of(s.member()), "project": "demo"}), CHANGED),
    Act("POST /rollouts", "rollout.change",
        lambda s: s.command("POST", "/rollouts", {**DEMO._asdict(), "changes": {"share": 1.0}}), CHANGED),
    Act("POST /query", "sql", lambda s: s.command("POST", "/query", sql_of("table")), rows=5),
    *(Act("POST /query", "sql.file",
          lambda s, output=output: s.command("POST", "/query", sql_of(output)), CHANGED, 5)
      for output in ("csv", "json", "parquet")),
    *(Act("POST /ask", f"query.{kind}",
          lambda s, kind=kind: s.command("POST", "/ask", {"kind": kind, "question": QUESTIONS[kind], **DEMO._asdict()}),
          rows=ANSWER)
      for kind in ("trends", "events")),
    Act("POST /ask", "query.events.file",
        lambda s: s.command("POST", "/ask", {"kind": "events", "question": SPAN, "format": "csv", **DEMO._asdict()}),
        CHANGED, ANSWER),
    Act("POST /import", "import", lambda s: s.imported("i1"), ("begun",)),
    Act("POST /import/finish", "import", lambda s: s.command("POST", "/import/finish", {"import_id": "i1"}), rows=1),
    Act("POST /export/file", "export.file", lambda s: s.exported(), rows=6),
    Act("POST /encryption/rotate", "encryption.rotate",
        lambda s: s.command("POST", "/encryption/rotate"), ("begun", "not_sealed")),
    Act("POST /replay", "replay", lambda s: s.command("POST", "/replay", {"event_id": None}), CHANGED, 0),
    Act("POST /rollup", "rollup.rebuild", lambda s: s.command("POST", "/rollup", {"months": [202601]}), CHANGED),
    Act("POST /retention", "retention.change",
        lambda s: s.command("POST", "/retention", {"project": "demo", "event": "old", "field": "", "days": "off"}), CHANGED),
    Act("POST /backup", "backup",
        lambda s: s.command("POST", "/backup", {"to": str(s.folder / "rights.json"), "rights": True}), CHANGED),
    Act("POST /exports", "person.export",
        lambda s: s.command("POST", "/exports", {"project": "demo", "user_id": "cyd", "anonymous_id": None}),
        CHANGED, 3, "cyd"),
    Act("POST /erasures", "erasure.request",
        lambda s: s.command("POST", "/erasures", {"project": "demo", "user_id": "eve", "anonymous_id": None}),
        CHANGED, person="eve"),
    Act("POST /erasures/{id}/resume", "erasure.resume",
        lambda s: s.command("POST", "/erasures/none/resume"), ("begun", "unknown")),
]  # fmt: skip
NO_RECORD = {
    "get /api/session": "of oneself",
    "put /api/session": "of oneself; what is looked at there is recorded then",
    "post /api/link": "of whoever holds the link; `session.open` follows",
    "get /api/analytics/saved": "statements, no data",
    "get /api/analytics/privacy/erasures/{request_id}": "counts of a request",
    "post /api/analytics/privacy/certificates/verify": "of the asker's own document",
    "get /api/analytics/privacy/retention": "rules",
    "post /api/analytics/privacy/mask": "of the asker's own text",
    "get /api/analytics/privacy/masking": "rules",
    "get /healthz": "no data",
    "get /readyz": "no data",
    "get /metrics": "sums of the whole service",
    "post /api/analytics/events": "the way in; each request is a record of the spool",
    "get /api/analytics/config": "public",
    "GET /keys": "of the operator, at the start of every command",
    "GET /rollouts": "settings",
    "POST /export/plan": "counts; each file is recorded",
    "GET /doctor": "no data",
    "GET /encryption": "names of keys",
    "GET /replay": "counts",
    "GET /retention": "rules",
    "GET /rollup": "months",
    "POST /erasures/verify": "of the asker's own document",
    "GET /erasures/{id}": "counts of a request",
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("acts")
    with running(folder / "data") as service:
        yield Stage(service, folder)


def held(answer: httpx.Response | None) -> int | None:
    """How many rows an answer shows."""
    assert answer is not None
    if answer.headers.get("x-twintrack-about"):
        return sum(1 for _ in csv.reader(io.StringIO(answer.text))) - 1
    rows = [value for name, value in answer.json().items() if name in ("rows", "people", "keys")]
    return len(rows[0]) if rows and isinstance(rows[0], list) else None


@pytest.mark.parametrize("act", [*HTTP, *COMMANDS], ids=lambda act: f"{act.way}-{act.what}")
def test_act_is_recorded_with_who_from_where_how_it_ended_and_its_rows(stage: Stage, act: Act) -> None:
    folder = stage.service.services.audit.folder
    before = len(entries(folder))
    answer = act.do(stage)
    found = [entry for entry in entries(folder)[before:] if entry.what == act.what]
    assert tuple(entry.outcome for entry in found) == act.outcomes, answer and answer.text
    last = found[-1]
    assert last.rows == (held(answer) if act.rows is ANSWER else act.rows)
    if act in COMMANDS:
        assert (last.who, last.where) == ("operator", "socket")
    else:
        assert last.who == stage.who or act.way in ("get /sign-in", "put /api/session/password"), last.who
        assert last.where.startswith("::ffff:127.0.0.") and last.project == "demo"
    if act.person:
        secret = stage.control.project("demo").secret
        assert {entry.subject for entry in found} == {mark_of(secret, act.person, None).hex()}


def test_every_way_in_is_recorded_or_says_why_not(stage: Stage) -> None:
    paths = stage.service.app.openapi()["paths"]
    ways = {f"{method} {path}" for path, methods in paths.items() for method in methods}
    commands = {
        f"{method} {route.path}"  # type: ignore[attr-defined]
        for route in stage.commands.routes
        for method in route.methods - {"HEAD"}  # type: ignore[attr-defined]
    }
    told = {act.way for act in [*HTTP, *COMMANDS]} | set(NO_RECORD)
    assert ways | commands == told - {"get /sign-in"}  # the demo's own stands in no documentation


def test_several_people_of_one_act_are_each_found_by_their_mark(stage: Stage) -> None:
    folder, secret = stage.service.services.audit.folder, stage.control.project("demo").secret
    before = len(entries(folder))
    said = [{"user_id": "fay", "state": "granted"}, {"anonymous_id": "g", "state": "denied"}]
    assert stage.http("POST", "/api/analytics/privacy/consents", {"statements": said}).status_code == 200
    told = [(entry.outcome, entry.subject) for entry in entries(folder)[before:]]
    assert {entry.who for entry in entries(folder)[before:]} == {stage.who}
    marks = {mark_of(secret, "fay", None).hex(), mark_of(secret, None, "g").hex()}
    assert told[0] == ("begun", "") and {mark for _, mark in told[1:]} == marks
    for mark in marks:
        records = stage.http("GET", f"/api/analytics/audit?subject={mark}").json()["records"]
        assert [record["what"] for record in records] == ["consent.state"]


def test_every_permission_is_asked_for_somewhere() -> None:
    """Roles are one table: what no code asks for would promise what nothing holds."""
    sources = Path(create_app.__code__.co_filename).parent.rglob("*.py")
    asked = "".join(file.read_text() for file in sources if file.name != "permissions.py")
    every = frozenset().union(*PERMISSIONS.values())
    assert [one.name for one in every if f"Permission.{one.name}" not in asked] == []
