"""Where every question reads: the events of one tenancy and range, with the person each belongs to.

A person is the `user_id`; else the user first linked to the `anonymous_id` (the earliest link counts, of equally early ones
the lesser id); else the `anonymous_id` itself. Links count whenever they were made: who signs in tomorrow had a yesterday.
An event with neither id belongs to nobody: `person` is empty, and no question counts it as one.
"""

from twintrack.query.compile.statement import Parameters, table

NOBODY = "''"


def links(p: Parameters) -> str:
    """A SELECT of (anonymous_id, linked): the user each anonymous id was first linked to."""
    # Of a link that stands in several rows, not merged yet, the earliest one counts here by itself.
    return (
        "SELECT anonymous_id, argMin(user_id, (first_linked_at, user_id)) AS linked"
        f" FROM {table('identities')} WHERE {p.tenancy} GROUP BY anonymous_id"
    )


def events(p: Parameters, columns: list[str], where: list[str], *, person: bool = True) -> str:
    """A SELECT over the tenancy's events: `columns` are expressions with their aliases, `where` conditions on the rows.

    With `person`, a column of that name may be used in both.
    """
    kept = " AND ".join([p.tenancy, *(w for w in where if w != "true")])
    if not person:
        return f"SELECT {', '.join(columns)} FROM {table('events')} WHERE {kept}"
    # Rows that name their user are read past the join: it costs several times what the rest of a row does.
    known = f"SELECT {', '.join(['user_id AS person', *columns])} FROM {table('events')} WHERE user_id != '' AND {kept}"
    return f"{known} UNION ALL {anonymous(p, columns, where)}"


def anonymous(p: Parameters, columns: list[str], where: list[str]) -> str:
    """As `events`, of those that name no user: their person is known from links alone."""
    kept = " AND ".join([p.tenancy, *(w for w in where if w != "true")])
    # Not `= ''`: that becomes `empty`, which the index of users does not serve.
    of = "if(linked != '', linked, anonymous_id) AS person"
    return (
        f"SELECT {', '.join([of, *columns])} FROM {table('events')}"
        f" LEFT ANY JOIN ({links(p)}) AS links USING (anonymous_id) WHERE user_id IN ('') AND {kept}"
    )
