"""Who had been there before: what "for the first time ever" is told from, the events of all history ahead of a moment.

Where any event counts, and raw has lost none to a policy of retention, the links say it of every person with both ids:
a link's first moment is that of the first event that carries both. What stands in no link, an event with one id alone,
is found in raw by the indexes of ids. Everywhere else raw is read, no more of it than the person.
"""

from twintrack.query.compile.statement import Parameters, table
from twintrack.query.filters import Filter, condition
from twintrack.query.period import Period
from twintrack.query.question import EventSelection
from twintrack.query.scope import Scope
from twintrack.query.source import NOBODY, anonymous, events


def earlier(of: EventSelection, only: Filter | None, scope: Scope, p: Parameters, span: Period) -> str:
    """A SELECT of (person): everyone with an event of the selection, of those `only` takes, ahead of the span.

    One person may stand there several times.
    """
    ahead = span.before(p)
    if of.names or of.filter is not None or only is not None or scope.complete_milliseconds:
        where = [ahead, condition(only, scope, p), condition(of.filter, scope, p)]
        if of.names:
            where.insert(0, f"event_name IN {p.texts(of.names)}")
        return events(p, [], where)
    linked = (
        f"SELECT DISTINCT user_id AS person FROM {table('identities')}"
        f" WHERE {p.tenancy} AND first_linked_at < {p.moment(span.start)}"
    )
    # Not `= ''`: that becomes `empty`, which the index of anonymous ids does not serve.
    unlinked = (
        f"SELECT DISTINCT user_id AS person FROM {table('events')}"
        f" WHERE {p.tenancy} AND {ahead} AND user_id != '' AND anonymous_id IN ({NOBODY})"
    )
    unnamed = f"SELECT DISTINCT person FROM ({anonymous(p, [], [ahead])})"
    return f"{linked} UNION ALL {unlinked} UNION ALL {unnamed}"
