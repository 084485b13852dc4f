"""Erases people, one request after another, in the loader's thread: only there is it sure that no insert is in doubt.

    requested   tombstones of the subject are written; everything accepted before is loaded, so that links are known
    fenced      tombstones of its anonymous ids too; what was accepted before those is loaded, its log files are gone
    spool_done  its rows are out of every chunk on disk
    store_done  and out of every table that has them
    rollups     months are made again from raw, and no old part of the engine is left
    vendors     each vendor has answered, or has no interface
    done        the subject is forgotten; what is left is the certificate

Each step may be cut short anywhere and is then run again from the last state that was written down.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from twintrack.clock import Clock
from twintrack.control import subjects
from twintrack.control.control import Control
from twintrack.control.erasures import OPEN, Erasures, MovedOn, Request, State, Subject
from twintrack.control.person_keys import PersonKeys
from twintrack.control.tombstones import ANONYMOUS, FENCE_MILLISECONDS, Marks, subject_hash
from twintrack.errors import RequestError, StoreError, Unavailable
from twintrack.load.rollup import feeds, first_whole_month
from twintrack.privacy.certificate import certificate, is_true
from twintrack.privacy.deletion import (
    copy_month,
    count,
    delete,
    detached,
    events_by_place,
    months_of_own_keys,
    purge,
    touched_months,
)
from twintrack.privacy.held import Held, environments, held, identifiers, links, meaning
from twintrack.privacy.subject import Link, later_places, named, owned, tombstones_of, typed
from twintrack.privacy.vendors import WAITING, Vendor
from twintrack.spool.chunks import identity_of
from twintrack.spool.erase import Told, told
from twintrack.spool.protocol import Kind, TakenLink, WholeSpool
from twintrack.store.protocol import Store

log = structlog.get_logger()
_LOOK_SECONDS = 0.5
_VENDOR_SECONDS = 60.0
_MOST_TRIES = 60
RESTORED = "restored"  # a subject that came back with a backup and is known by tombstones alone


class Eraser:
    def __init__(
        self,
        control: Control,
        spool: WholeSpool,
        store: Store,
        clock: Clock,
        vendors: Sequence[Vendor],
        window_days: int,
        reached: Callable[[str], None],
        person_keys: PersonKeys | None = None,
    ) -> None:
        self._reached, self._person_keys = reached, person_keys
        self._control, self._spool, self._store, self._clock = control, spool, store, clock
        self._vendors, self._window_days = vendors, window_days
        self._erasures = Erasures(control.engine)
        self._work: Iterator[bool] | None = None
        self._looked_at = -_LOOK_SECONDS
        self._vendors_at = 0.0  # monotonic seconds; then those that did not answer are asked again

    # -- asked by anybody ----------------------------------------------------------------------------------------

    def request(self, project: str, user_id: str | None, anonymous_id: str | None) -> Request:
        """A durable request; from now on, and within a second on every server, older events of the person are refused.

        Raises: RequestError for a project that is not here, or a subject that is none.
        """
        kind, identifier = typed(user_id, anonymous_id)
        secret = self._control.known_project(project).secret
        subject = named(kind, identifier, secret, environments_of(self._control, self._spool, project))
        now = self._clock.milliseconds()
        marks = tombstones_of(project, subject, secret, now)
        made = self._erasures.create(project, subject, subject_hash(secret, identifier), marks, now)
        with contextlib.suppress(SQLAlchemyError, MovedOn):  # the request is durable, and its next step does it too
            self._destroy_keys(made)
            self._erasures.keep(made, now)
        log.info("erasure_requested", request=made.id, project=project)
        self._looked_at = -_LOOK_SECONDS
        self._spool.wake()
        return made

    def get(self, request_id: str, project: str | None = None) -> Request:
        """Raises: RequestError 404."""
        return self._erasures.get(request_id, project)

    def resume(self, request_id: str, project: str | None = None) -> Request:
        """A failed request goes on where it stopped, and vendors that did not answer are asked now. Raises: RequestError."""
        request = self._erasures.get(request_id, project)
        if request.state is State.FAILED:
            request.state = State(request.progress.failed_in)
            request.progress.error = ""
            self._erasures.keep(request, self._clock.milliseconds())
        self._vendors_at = 0.0
        self._spool.wake()
        return request

    def reapply(self) -> list[Request]:
        """What a restore has brought back of people who were erased is erased again; the requests that do it.

        To be called when a backup is in place and before the door opens; done when each of them is. Nobody knows any more
        who they were: every identifier that is held is compared with the tombstones. Raises: StoreError.
        """
        made = []
        for project in self._control.list_projects():
            marks = self._control.tombstones(project)
            if marks is None:
                continue
            found: dict[int, Subject] = {}
            for environment, user_id, anonymous_id in self._identifiers(project):
                until = marks.until(environment, user_id, anonymous_id)
                if until >= 0:
                    subject = found.setdefault(until, Subject(RESTORED, "", [], []))
                    if user_id:
                        subject.users.append(user_id)
                    else:
                        subject.anonymous.append((environment, anonymous_id))
            for until, subject in sorted(found.items()):
                made.append(self._once_more(project, subject, until))
        log.info("tombstones_applied", requests=len(made))
        self._spool.wake()
        return made

    def _once_more(self, project: str, subject: Subject, until: int) -> Request:
        """A request about somebody who is known by tombstones alone, for what is older than that time."""
        marks = tombstones_of(project, subject, self._control.project(project).secret, until)
        return self._erasures.create(project, subject, "", marks, until, fenced_at=self._clock.milliseconds())

    def _follow(self, taken: list[TakenLink]) -> None:
        """An anonymous id may come to light as an erased person's when their erasure has passed: by an event that waited
        on a node that was down, and was taken out. What the store has of that id goes too."""
        self._control.known_tombstones(now=True)  # none may be missing: what is taken is forgotten below
        for project in sorted({link.project for link in taken}):
            mine = [link for link in taken if link.project == project]
            marks = self._control.tombstones(project)
            if marks is None:
                continue  # a database of before the erasure was put back: nobody is known to be erased here
            known = self._links(project, Subject(RESTORED, "", [], []), mine)
            found: dict[int, list[tuple[str, str]]] = {}
            for user in sorted({link.user_id for link in mine}):
                until = marks.until("", user, "")
                for environment, anonymous_id in owned(known, [user]):
                    if marks.until(environment, "", anonymous_id) < until:
                        found.setdefault(until, []).append((environment, anonymous_id))
            for until, ids in sorted(found.items()):
                made = self._once_more(project, Subject(RESTORED, "", [], ids), until)
                log.info("erasure_goes_on", request=made.id, project=project)
        self._spool.forget_links(taken)

    def _identifiers(self, project: str) -> set[tuple[str, str, str]]:
        """(environment, user, "") of every user that is held, and (environment, "", anonymous id) of every browser."""
        found = identifiers(self._store, project)
        for _, kind, row in self._spool.rows("lookup", "frozen", "loaded", "quarantined"):
            if kind is Kind.EVENTS:
                event = told(row)
                if event.project == project:
                    found |= {("", event.user_id, ""), (event.environment, "", event.anonymous_id)}
        return {one for one in found if one[1] or one[2]}

    def verify(self, document: dict[str, Any]) -> bool:
        """Whether a certificate is ours and unaltered. Raises: RequestError where its project is unknown."""
        try:
            secret = self._control.project(str(document.get("project"))).secret
        except KeyError as error:
            raise RequestError(
                "the certificate names a project that is not here", hint="ask the service that issued it"
            ) from error
        return is_true(document, secret)

    # -- in the loader's thread ----------------------------------------------------------------------------------

    def step(self) -> bool:
        """Goes on with the oldest open request; whether anything moved. Raises: StoreError; then a step is begun again.

        Of several loaders one does it; where another has taken its place it goes on from what is written down.
        """
        if self._work is None:
            request = self._next()
            if request is None or not self._spool.leads():
                return False
            self._work = self._run(request)
        elif not self._spool.leads():
            self._work = None
            return False
        try:
            return next(self._work)
        except StopIteration:
            self._work = None
            self._looked_at = -_LOOK_SECONDS
            return True
        except MovedOn:
            self._work = None
            return False
        except (StoreError, OperationalError):
            self._work = None
            raise

    def _next(self) -> Request | None:
        now = self._clock.monotonic_seconds()
        if now - self._looked_at < _LOOK_SECONDS:
            return None
        self._looked_at = now
        requests = self._erasures.open()
        under_way = any(one.state is not State.VENDORS for one in requests)
        if not under_way and (taken := self._spool.taken_links()) and self._spool.leads():
            self._follow(taken)
        # One that only waits for a vendor stands back behind the others.
        waiting = [one for one in requests if one.state is not State.VENDORS or now >= self._vendors_at]
        return min(waiting, key=lambda one: (one.state is State.VENDORS, one.requested_at), default=None)

    def _run(self, request: Request) -> Iterator[bool]:
        steps = {
            State.REQUESTED: self._fence,
            State.FENCED: self._out_of_spool,
            State.SPOOL_DONE: self._out_of_store,
            State.STORE_DONE: self._out_of_files,
            State.ROLLUPS_DONE: self._tell_vendors,
            State.VENDORS: self._tell_vendors,
        }
        while request.state in OPEN:
            before = request.state
            try:
                yield from steps[before](request)
            except (StoreError, GeneratorExit, MovedOn):
                raise
            except (Unavailable, OperationalError):  # the disk, the control database; their trouble is told elsewhere
                yield False
                return
            except Exception as error:  # one request that cannot go on must not stop the loader
                log.error("erasure_failed", request=request.id, state=before.value, exc_info=True)
                request.progress.failed_in = before.value
                request.progress.error = f"it stopped behind {before.value}: {type(error).__name__}; see the log"
                request.state = State.FAILED
                self._erasures.keep(request, self._clock.milliseconds())
                return
            if request.state in (before, State.VENDORS):
                return

    def _reach(self, request: Request, state: State) -> None:
        request.state = state
        self._erasures.keep(request, self._clock.milliseconds())
        log.info("erasure_state", request=request.id, state=state.value)

    def _drained(self, since: int) -> Iterator[bool]:
        """Until every cache knows the tombstones of `since`, and all that was accepted before is in the store."""
        while self._clock.milliseconds() < since + FENCE_MILLISECONDS:
            yield False
        self._spool.renew()
        while not self._spool.passed() or self._spool.pending():
            yield False

    def _fence(self, request: Request) -> Iterator[bool]:
        subject = _subject(request)
        yield from self._drained(request.requested_at)
        taken = [link for link in self._spool.taken_links() if link.project == request.project]
        known = self._links(request.project, subject, taken) + self._links_in_quarantine(request.project)
        mine = sorted({*subject.anonymous, *owned(known, subject.users), *self._everywhere(request.project, subject)})
        request.subject = Subject(subject.kind, subject.typed, subject.users, mine)
        secret = self._control.project(request.project).secret
        of, at = (request.project, request.subject, secret), request.requested_at
        places = self._places(request.project)
        marks = tombstones_of(*of, at) + later_places(*of, at, places, self._control.tombstones(request.project))
        self._destroy_keys(request)
        request.state = State.FENCED
        self._erasures.keep(request, self._clock.milliseconds(), marks)
        self._spool.forget_links(link for link in taken if link.user_id in subject.users)
        yield True

    def _destroy_keys(self, request: Request) -> None:
        """What is sealed under the person's keys can be read nowhere from now on, in no copy of it."""
        if self._person_keys is not None:
            secret = self._control.project(request.project).secret
            marks = tombstones_of(request.project, _subject(request), secret, request.requested_at)
            request.progress.add("person keys", self._person_keys.destroy(marks))

    def _links(self, project: str, subject: Subject, taken: list[TakenLink]) -> list[Link]:
        """Links of the anonymous ids that a subject has any link to, those among them that the store never saw."""
        ids = sorted({*subject.anonymous, *((one.environment, one.anonymous_id) for one in taken)})
        with self._meaning(Subject(subject.kind, "", subject.users, ids)):
            known = [Link(*row) for row in links(self._store, project)]
        return known + [Link(one.environment, one.anonymous_id, one.user_id, one.at) for one in taken]

    def _everywhere(self, project: str, subject: Subject) -> list[tuple[str, str]]:
        """An anonymous id in every environment that has events, also in those that have no key."""
        if subject.kind != ANONYMOUS or not subject.typed:
            return []
        secret = self._control.project(project).secret
        return named(ANONYMOUS, subject.typed, secret, self._places(project)).anonymous

    def _places(self, project: str) -> set[str]:
        """Every environment that is there: by its keys, what was sent, what is stored and what stands in quarantine."""
        places = {*environments_of(self._control, self._spool, project), *environments(self._store, project)}
        return places | {event.environment for event in self._in_quarantine(project)}

    def _in_quarantine(self, project: str) -> Iterator[Told]:
        for _, kind, row in self._spool.rows("quarantined"):
            if kind is Kind.EVENTS and (event := told(row)).project == project:
                yield event

    def _links_in_quarantine(self, project: str) -> list[Link]:
        return [
            Link(event.environment, event.anonymous_id, event.user_id, event.event_timestamp)
            for event in self._in_quarantine(project)
            if event.user_id and event.anonymous_id
        ]

    def _out_of_spool(self, request: Request) -> Iterator[bool]:
        yield from self._drained(request.changed_at)
        request.progress.topic = self._spool.remains()
        # What is counted as expired and still there would be counted twice.
        while self._spool.removals.pending() or not self._spool.quiet():
            yield False
        self._plan(request)
        subject, erased = _subject(request), set(self._spool.erased_ids())
        secret = self._control.project(request.project).secret
        marks = Marks(secret, tombstones_of(request.project, subject, secret, request.requested_at))

        def of_person(row: bytes) -> bool:
            event = told(row)
            return event.project == request.project and marks.covers(
                event.environment, event.user_id, event.anonymous_id, event.moment
            )

        for _, kind, row in self._spool.rows("lookup", "frozen", "loaded", "quarantined"):
            if kind is Kind.EVENTS and of_person(row):
                erased.add(identity_of(row))

        def gone(kind: Kind, row: bytes) -> bool:
            return of_person(row) if kind is Kind.EVENTS else identity_of(row) in erased

        names = [*subject.users, *(anonymous_id for _, anonymous_id in subject.anonymous)]
        for state, rows in self._spool.remove(gone, names).items():
            request.progress.add(f"spool/{state}", rows)
        self._reach(request, State.SPOOL_DONE)
        self._reached("erasure_spool_done")
        yield True

    def _plan(self, request: Request) -> None:
        """Writes down what the store will lose while all of it is there: what is cut short later is counted by this."""
        first, progress, rolled = first_whole_month(self._spool.complete_since()), request.progress, feeds(self._store)
        # Taken out on their way from log or topic to chunk, since the tombstone was written.
        taken = sum(project == request.project for project, _ in self._spool.erased_ids())
        progress.removed.setdefault("spool/topic" if progress.topic else "spool/log", taken)
        made_again = {feed.table for feed in rolled if feed.month != "0"}
        with self._held(request) as found:
            events = _events(found)
            progress.months = sorted({*progress.months, *touched_months(self._store, found, rolled, first)})
            progress.copied = sorted({*progress.copied, *months_of_own_keys(self._store, events.where)})
            for one in found:
                place = f"store/{one.table}" + (" (made again)" if one.table in made_again else "")
                progress.most(place, count(self._store, one.table, one.where))
            places = events_by_place(self._store, events.where)
        self._spool.plan_erasure(request.id, places)
        self._erasures.keep(request, self._clock.milliseconds())
        self._reached("erasure_planned")

    @contextlib.contextmanager
    def _held(self, request: Request) -> Iterator[list[Held]]:
        """Where the store holds the person, who is named in it as long."""
        ids = [_text(event_id) for project, event_id in self._spool.erased_ids() if project == request.project]
        with self._meaning(_subject(request), ids):
            yield held(self._store, request.project, request.requested_at)

    @contextlib.contextmanager
    def _meaning(self, subject: Subject, event_ids: Iterable[str] = ()) -> Iterator[None]:
        """Raises: MovedOn where another loader has taken the work over: whom it means is its business."""
        if not self._spool.leads():
            raise MovedOn
        with meaning(self._store, subject, event_ids):
            yield

    def _out_of_store(self, request: Request) -> Iterator[bool]:
        never_loaded = self._spool.erased_ids()
        with self._held(request) as found:
            for one in found:
                if one.by_event:
                    request.progress.most(f"store/{one.table}", count(self._store, one.table, one.where))
            yield from delete(self._store, found, first_whole_month(self._spool.complete_since()))
            if count(self._store, "events", _events(found).where):
                raise RuntimeError("rows of the person came back while they were deleted")
        for month in request.progress.copied:
            while not self._spool.quiet():
                yield False
            copy_month(self._store, month, self._spool.quiet)
        broken = detached(self._store)
        if broken:
            note = f"{broken} broken parts that the store has put aside (system.detached_parts) were not read"
            request.progress.notes = [note]
        self._destroy_keys(request)  # one may have been made for an event that was on its way
        self._reached("erasure_deleted")
        with self._control.engine.begin() as db:
            for table, rows in subjects.remove(db, request.project, _subject(request)).items():
                request.progress.add(f"control/{table}", rows)
        self._spool.settle_erasure(request.id, request.progress.months)
        self._reached("erasure_settled")
        self._spool.forget_erased(one for one in never_loaded if one[0] == request.project)
        self._reach(request, State.STORE_DONE)
        yield True

    def _out_of_files(self, request: Request) -> Iterator[bool]:
        while set(request.progress.months) & set(self._spool.stale_months()):
            yield False
        persons = {one.table for one in held(self._store, request.project, None)}
        rolled = {feed.table for feed in feeds(self._store)}
        yield from purge(self._store, self._clock, persons | rolled)
        self._reach(request, State.ROLLUPS_DONE)
        yield True

    def _tell_vendors(self, request: Request) -> Iterator[bool]:
        told_vendors = request.progress.vendors
        # After a restore nobody knows who it was, and vendors were told when the person was erased.
        for vendor in () if _subject(request).kind == RESTORED else self._vendors:
            if told_vendors.get(vendor.name, {"status": WAITING})["status"] == WAITING:
                # A vendor may take its time, and loading does not wait for it.
                with ThreadPoolExecutor(1) as pool:
                    answer = pool.submit(vendor.forget, request.id, _subject(request))
                    while not answer.done():
                        yield False
                told_vendors[vendor.name] = answer.result()
        if any(answer["status"] == WAITING for answer in told_vendors.values()):
            self._vendors_at = self._clock.monotonic_seconds() + _VENDOR_SECONDS
            self._reach(request, State.VENDORS)
            return
        self._finish(request)
        for _ in range(_MOST_TRIES):
            keys_left = self._person_keys is not None and not self._person_keys.forget_bytes()
            if self._erasures.forget_bytes() and not keys_left:
                break
            yield False
        yield True

    def _finish(self, request: Request) -> None:
        notes = list(request.progress.notes)
        if self._control.engine.dialect.name != "sqlite":
            notes.append("the subject stands in dead rows of the control database until its next VACUUM")
        now = self._clock.milliseconds()
        secret = self._control.project(request.project).secret
        request.certificate = certificate(request, secret, now, self._window_days, notes)
        request.subject = None
        self._reach(request, State.DONE)


def _subject(request: Request) -> Subject:
    if request.subject is None:
        raise RuntimeError("an open request has lost its subject")
    return request.subject


def environments_of(control: Control, spool: WholeSpool, project: str) -> list[str]:
    """Every environment of a project that has a key, or that anything was ever sent or imported into."""
    keyed = {key["environment"] for key in control.list_keys(project)}
    return sorted(keyed | {environment for place, environment, *_ in spool.tallies() if place == project})


def _events(found: list[Held]) -> Held:
    return next(one for one in found if one.table == "events")


def _text(event_id: bytes) -> str:
    digits = event_id.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
