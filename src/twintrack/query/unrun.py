"""A statement that is only explained must read no event, and the engine's EXPLAIN runs what it wants to know beforehand.

Source: chDB 26.9, tried form by form (tests/query/test_explain.py). A subquery in the place of a value is run and its value
put in; one behind IN is run where a key or an index might use its set; no setting keeps it from either. `EXPLAIN SYNTAX` and
`EXPLAIN AST` run nothing, and say nothing of what would be read. One that names a column of the query around it is not run.
"""

from collections.abc import Collection

import sqlglot
from sqlglot import exp

_SOURCES = (exp.From, exp.Join, exp.SetOperation, exp.Subquery)


def unrun(statement: exp.Query, columns: Collection[str]) -> int:
    """Makes each subquery that EXPLAIN would run one of no rows, and its value one that nobody knows while planning.

    So keys and indexes are used as if nothing was known of it. Returns how many there are. The statement is changed;
    `columns` are those of the tables.
    """
    for node in list(statement.find_all(exp.In)):
        if name := _name_behind(node):  # of a WITH
            node.set("field", None)
            node.set("expressions", [])
            node.set("query", sqlglot.select("*").from_(exp.Table(this=name.this)).subquery())
    # The innermost first, since those around them are copied.
    asked = [node for node in reversed(list(statement.walk())) if isinstance(node, exp.Query) and _is_value(node)]
    run = [query for query in asked if not _is_correlated(query, statement, columns)]
    for query in run:
        parent, none = query.parent, _of_no_rows(query)
        if isinstance(parent, exp.In) and query.arg_key == "query":
            parent.set("query", none.subquery())
            parent.set("this", exp.func("materialize", parent.this, dialect="clickhouse", copy=False))
        elif isinstance(parent, exp.Exists):
            query.replace(none)
            parent.replace(_unknown(parent.copy()))
        else:
            query.replace(_unknown(_one_value(query, none).subquery()))
    return len(run)


def _is_value(query: exp.Query) -> bool:
    parent = query.parent
    if parent is None or isinstance(parent, _SOURCES):
        return False
    return not isinstance(parent, exp.CTE) or bool(parent.args.get("scalar"))


def _name_behind(node: exp.In) -> exp.Column | None:
    listed = node.expressions
    behind = node.args.get("field") or (listed[0] if len(listed) == 1 else None)
    while isinstance(behind, exp.Paren):
        behind = behind.this
    return behind if isinstance(behind, exp.Column) else None


def _is_correlated(query: exp.Query, whole: exp.Query, columns: Collection[str]) -> bool:
    """Whether a column is told to be one of a table outside. Where in doubt it is not: then it is not run either."""
    inside = _aliases(query) | set(columns)
    outside = _aliases(whole) - inside
    return any(column.table in outside for column in query.find_all(exp.Column) if column.table)


def _aliases(query: exp.Query) -> set[str]:
    return {n.name if isinstance(n, exp.TableAlias) else n.alias for n in query.find_all(exp.TableAlias, exp.Alias)}


def _of_no_rows(query: exp.Query) -> exp.Select:
    bare = query.this if isinstance(query, exp.Subquery) else query
    return sqlglot.select("*").from_(bare.copy().subquery("unrun")).limit(0)


def _one_value(query: exp.Query, none: exp.Select) -> exp.Select:
    """No row as a value is NULL, and some types have none; an aggregate of no rows has a value of the type."""
    if len(query.selects) != 1 or query.is_star:
        return none
    return sqlglot.select(exp.func("any", exp.Star(), dialect="clickhouse")).from_(none.subquery("unrun"))


def _unknown(value: exp.Expression) -> exp.Expression:
    """What the planner cannot fold: by `materialize` it sees through."""
    place = sqlglot.parse_one("1 + rand64() % 2", read="clickhouse")
    return exp.Anonymous(this="arrayElement", expressions=[exp.Array(expressions=[value]), place])
