"""Foreign SQL, judged before it runs: one SELECT over known tables, no table functions, no reach outside.

The engine's `readonly` does not stop everything (scalar `file()` reads files, a second statement runs), so the
parse decides, and only what is on a list passes: kinds of nodes here, words in `vocabulary`. What runs is never the
text that came but one written anew from the parse, with every name quoted. Each table becomes a subquery of the
caller's own project and environment, so no clause can widen the scope; `locks` makes the engine itself filter each
table by them once more. Source of the holes: chDB 26.9, tried one by one; tests/data/hostile_sql.toml keeps them.
"""

import re
import secrets
from collections.abc import Collection, Iterable

import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError

from twintrack.event import Tenancy
from twintrack.permissions import Permission
from twintrack.query.unrun import unrun
from twintrack.query.vocabulary import NEVER, check_words, is_type, refused
from twintrack.store.schema import DATABASE, HIDDEN, READABLE, READABLE_COLUMNS, REPLACING, SALT

_MOST_CHARACTERS = 50_000
_OUTFILE = re.compile(r"\bINTO\s+OUTFILE\b", re.IGNORECASE)
_MOST_NODES = 5_000
# A name of the asker: letters of any script, and what stands in paths and headings. No quotes, no backslash: what
# the parser and the engine read differently there would let a name end early.
_NAME = re.compile(r"[\w .:^%$#@/+\-()*,\[\]]{1,200}")
_PLAIN = re.compile(r"\w+")
_COLUMNS = frozenset(column for columns in READABLE_COLUMNS.values() for column in columns)
_CTE = "twintrack_with_"
_READ_FROM = f"read from {', '.join(READABLE)}"
_SELECT_ONLY = ("only SELECT is allowed", "reading cannot write")

# Kinds of nodes that are no function; functions are judged by their names.
_NODES = frozenset(
    {
        exp.Select, exp.Union, exp.Intersect, exp.Except, exp.Subquery, exp.With, exp.CTE, exp.TableAlias,
        exp.From, exp.Join, exp.Table, exp.Where, exp.PreWhere, exp.Group, exp.Having, exp.Qualify, exp.Order,
        exp.Ordered, exp.Limit, exp.LimitOptions, exp.Offset, exp.Fetch, exp.WithFill, exp.Rollup, exp.Cube,
        exp.GroupingSets, exp.Distinct, exp.Window, exp.WindowSpec, exp.Filter, exp.Column, exp.Identifier, exp.Star,
        exp.Literal, exp.Boolean, exp.Null, exp.Alias, exp.Paren, exp.Tuple, exp.Dot, exp.Bracket, exp.Lambda, exp.Var,
        exp.Interval, exp.DataType, exp.DataTypeParam, exp.ColumnDef, exp.Placeholder, exp.NestedJSONSelect, exp.In,
        exp.Between, exp.Like, exp.ILike, exp.Is, exp.Not, exp.Neg, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv,
        exp.Mod, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ, exp.NullSafeNEQ, exp.DPipe,
        exp.JSONPath, exp.JSONPathRoot, exp.JSONPathKey, exp.JSONPathSubscript, exp.Final,
    }
)  # fmt: skip
_HINTS = {
    exp.Apply: ("APPLY is not allowed", "name the columns"),
    exp.Columns: ("COLUMNS('...') is not allowed", "name the columns"),
    exp.Values: ("table functions are not allowed", _READ_FROM),
    exp.TableSample: ("FINAL and SAMPLE are not needed", "every table is exact without them"),
}


def scope(sql: str, tenancy: Tenancy | None, *, hidden: Collection[Permission] = ()) -> str:
    """The statement as it may run: checked, and each table cut to the tenancy (None: all of them, for an operator).

    `hidden` are the permissions that the asker lacks: columns that need one of them show a mark or a name that holds
    within one answer. Run it with the parameters of `salts()` and the settings of `locks(tenancy)`.

    Raises: RequestError that says what is not allowed; it never quotes the statement.
    """
    return _written(_judged(sql, tenancy, hidden))


def explained(sql: str, tenancy: Tenancy | None, *, hidden: Collection[Permission] = ()) -> tuple[str, str, int]:
    """What asks the engine how it would run the statement, the statement, and how many subqueries' values it does not
    know then.

    Raises: as `scope`.
    """
    statement = _judged(sql, tenancy, hidden)
    judged = _written(statement)
    unknown = unrun(statement, _COLUMNS)
    return f"EXPLAIN indexes = 1 {_written(statement)}", judged, unknown


def _judged(sql: str, tenancy: Tenancy | None, hidden: Collection[Permission]) -> exp.Query:
    statement = _parsed(sql)
    names = _names_of_ctes(statement)
    _check(statement, names)
    _rename(statement, names)
    check_words(_written(statement))
    if tenancy is not None:
        _prewhere(statement)
    for table in list(statement.find_all(exp.Table)):
        if table.name.startswith(_CTE) and not table.db:
            continue
        if tenancy is None and table.name not in REPLACING:
            table.set("db", exp.to_identifier(DATABASE))
        else:
            _cut(table, tenancy, hidden)
    return statement


def locks(tenancy: Tenancy | None) -> dict[str, str]:
    """Settings by which the engine filters each table by itself, whatever a statement says. A second wall."""
    if tenancy is None:
        return {}
    condition = f"project = {_text(tenancy.project)} AND environment = {_text(tenancy.environment)}"
    filters = ", ".join(f"{_text(f'{DATABASE}.{table}')}: {_text(condition)}" for table in READABLE)
    return {"additional_table_filters": "{" + filters + "}"}


def salts() -> dict[str, int]:
    """Fresh parameters for hidden names: without them nobody can try out which id a name stands for."""
    return {name: secrets.randbits(63) for name in SALT}


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _parsed(sql: str) -> exp.Query:
    if len(sql) > _MOST_CHARACTERS:
        raise refused(f"the statement is longer than {_MOST_CHARACTERS} characters", "shorten it")
    try:
        statements = [s for s in sqlglot.parse(sql, read="clickhouse") if s is not None]
    except (SqlglotError, RecursionError, ValueError) as error:
        if _OUTFILE.search(sql):
            raise refused(
                "INTO OUTFILE is not allowed: reading writes no files", "leave it out; `format` gives a file"
            ) from error
        raise refused(
            "the statement cannot be read as one SELECT", "check the syntax; `LIMIT n BY x LIMIT m` is not read"
        ) from error
    if len(statements) != 1:
        raise refused(f"there are {len(statements)} statements", "send exactly one SELECT")
    statement = statements[0]
    if not isinstance(statement, exp.Query):
        raise refused(*_SELECT_ONLY)
    return statement


def _written(statement: exp.Query) -> str:
    try:
        return statement.sql(dialect="clickhouse", identify=True, comments=False, unsupported_level=ErrorLevel.RAISE)
    except (SqlglotError, RecursionError, ValueError) as error:
        raise refused("a part of the statement is not known here", "write it in plainer SQL") from error


def _names_of_ctes(statement: exp.Query) -> set[str]:
    """WITH also names expressions; one of those is no table, whatever it looks like."""
    names = {cte.alias_or_name for cte in statement.find_all(exp.CTE) if not cte.args.get("scalar")}
    if {name.lower() for name in names} & {table.lower() for table in READABLE}:
        raise refused("a WITH name hides a table", "give the WITH query another name")
    return names


def _check(statement: exp.Query, names: set[str]) -> None:
    nodes = list(statement.walk())
    if len(nodes) > _MOST_NODES:
        raise refused(f"the statement has more than {_MOST_NODES} parts", "shorten it")
    known = _COLUMNS | _defined(nodes)
    arguments: list[exp.Column] = []
    for node in nodes:
        kind = type(node)
        if kind not in _NODES and not isinstance(node, exp.Func):
            raise refused(
                *_HINTS.get(kind, _SELECT_ONLY if isinstance(node, exp.DDL | exp.DML | exp.Command) else _UNKNOWN)
            )
        if kind in _HINTS:
            raise refused(*_HINTS[kind])
        if isinstance(node, exp.Query):
            if node.args.get("settings"):
                raise refused("SETTINGS are ours to set", "leave the SETTINGS clause out")
            if node.args.get("format"):
                raise refused("FORMAT is not part of the question", "use --format, or read the JSON answer")
        elif isinstance(node, exp.Identifier):
            _check_name(node.name)
            node.set("quoted", True)
        elif isinstance(node, exp.Table):
            _check_table(node, names)
        elif isinstance(node, exp.TableAlias):
            if node.columns:
                raise refused("an alias with a list of columns is not read", "name the columns in the SELECT")
        elif isinstance(node, exp.Column):
            _check_column(node, known)
            if _may_be_function(node):
                arguments.append(node)
        elif isinstance(node, exp.In):
            _check_membership(node, names)
        elif isinstance(node, exp.Lambda):
            if isinstance(node.find_ancestor(exp.Alias, exp.CTE, exp.Func), exp.Alias | exp.CTE):
                raise refused("a lambda cannot have a name", "write it where it is used")
        elif isinstance(node, exp.Placeholder):
            _check_parameter(node)
        elif isinstance(node, exp.DataType):
            _check_type(node.sql(dialect="clickhouse"))
        elif isinstance(node, exp.CastToStrType):
            _check_type(node.args["to"].name)
    for column in arguments:
        column.replace(exp.Anonymous(this="identity", expressions=[column.copy()]))


_UNKNOWN = ("a part of the statement is not allowed", "one SELECT, as docs/reference/sql.md has it")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise refused("a name holds characters that are not allowed", "use letters, digits, spaces and _ in names")
    if name.lower().startswith("twintrack_"):
        raise refused("names that start with twintrack_ are ours", "choose another name")


def _defined(nodes: Iterable[exp.Expr]) -> set[str]:
    """Names that the statement itself gives to something."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, exp.Alias | exp.TableAlias):
            found.add(node.alias if isinstance(node, exp.Alias) else node.name)
        elif isinstance(node, exp.Lambda):
            found.update(parameter.name for parameter in node.expressions)
    return found


def _check_column(column: exp.Column, known: Collection[str]) -> None:
    """A bare name that nothing defines may be a function: `arrayMap(file, ['/etc/passwd'])`, `"current_user"`."""
    if column.db and column.db == DATABASE and column.args.get("catalog") is None:
        column.set("db", None)  # as the table is a subquery now
    name = column.name
    if not column.table and name.lower() in NEVER:
        raise refused(f"the name {name} is the engine's own", "choose another name")
    if not column.table and isinstance(column.this, exp.Identifier) and _PLAIN.fullmatch(name) and name not in known:
        raise refused(
            f"the column {name[:60]} is unknown",
            "docs/reference/schema.md lists the columns; `JSON` paths need theirs first",
        )


def _may_be_function(column: exp.Column) -> bool:
    """Whether the engine may take a bare name for a function to call: `arrayMap(file, [...])` where what the name is
    defined as is out of sight there. Behind `identity` a name is a value or nothing. No other functions take functions;
    a test asks the engine."""
    if column.table or column.name in _COLUMNS:
        return False
    parent = column.parent
    while isinstance(parent, exp.Paren):
        parent = parent.parent
    return isinstance(parent, exp.Func) and parent.sql(dialect="clickhouse").lower().startswith(("array", "map"))


def _check_membership(node: exp.In, names: set[str]) -> None:
    """A name alone behind IN is a table to the engine, though it reads as a column; in parentheses too."""
    listed = node.expressions
    behind = node.args.get("field") or (listed[0] if len(listed) == 1 else None)
    while isinstance(behind, exp.Paren):
        behind = behind.this
    named = isinstance(behind, exp.Column) and not behind.table and behind.name in names
    given = isinstance(behind, exp.Placeholder) and not isinstance(behind.args.get("kind"), exp.DataType)
    if given or (isinstance(behind, exp.Column) and not named):
        raise refused("a table's name cannot stand behind IN", "write IN (SELECT ... FROM ...), or has(array, value)")


def _check_parameter(node: exp.Placeholder) -> None:
    kind = node.args.get("kind")
    if not isinstance(kind, exp.DataType):
        raise refused("a parameter is a value of a type", "write {name:String}; names cannot be parameters")
    if node.name.startswith("twintrack_"):
        raise refused("parameters that start with twintrack_ are ours", "choose another name")


def _check_type(text: str) -> None:
    if not is_type(text):
        raise refused(
            "this type cannot be cast to", "use types of values; states of aggregates are made by the rollups"
        )


def _check_table(table: exp.Table, names: set[str]) -> None:
    if not isinstance(table.this, exp.Identifier):
        raise refused("table functions are not allowed", _READ_FROM)
    database, name = table.db, table.name
    if table.args.get("catalog") or (database and database != DATABASE):
        raise refused("only the analytics database can be read", _READ_FROM)
    if not database and name in names:
        return
    if name not in READABLE:
        raise refused("this table is unknown or not readable", _READ_FROM)
    if isinstance(table.parent, exp.Final) or table.args.get("final") or table.args.get("sample"):
        raise refused(*_HINTS[exp.TableSample])


def _rename(statement: exp.Query, names: set[str]) -> None:
    """WITH queries get names that no table has: one that is not in scope where it is used is then nothing at all."""
    for cte in statement.find_all(exp.CTE):
        if not cte.args.get("scalar"):
            cte.args["alias"].set("this", exp.to_identifier(_CTE + cte.alias_or_name))
    for table in list(statement.find_all(exp.Table)):
        if table.name in names and not table.db:
            if not table.alias:
                table.set("alias", exp.TableAlias(this=exp.to_identifier(table.name)))
            table.set("this", exp.to_identifier(_CTE + table.name))
    for node in statement.find_all(exp.In):
        for column in [node.args.get("field"), *node.expressions]:
            while isinstance(column, exp.Paren):
                column = column.this
            if isinstance(column, exp.Column) and not column.table and column.name in names:
                column.set("this", exp.to_identifier(_CTE + column.name))


def _prewhere(statement: exp.Query) -> None:
    """A subquery takes no PREWHERE; as WHERE it says the same, and the engine moves it back by itself."""
    for select in statement.find_all(exp.Select):
        condition = select.args.pop("prewhere", None)
        if condition is not None:
            select.where(condition.this, copy=False)


def _cut(table: exp.Table, tenancy: Tenancy | None, hidden: Collection[Permission]) -> None:
    """Puts a subquery of one tenancy in place of a table; what is hidden gets something else in its place.

    A table whose rows replace each other is read as if all of them had been merged: what came twice is there once.
    """
    columns = {
        column: shown
        for permission in sorted(hidden)
        for column, shown in HIDDEN.get(permission, {}).get(table.name, {}).items()
    }
    gone = [column for column, shown in columns.items() if not shown]
    shown = [f"{expression} AS {column}" for column, expression in columns.items() if expression]
    star = "*" + (f" EXCEPT ({', '.join(gone)})" if gone else "") + (f" REPLACE ({', '.join(shown)})" if shown else "")
    source: exp.Expression = exp.Table(this=exp.to_identifier(table.name), db=exp.to_identifier(DATABASE))
    if table.name in REPLACING:
        source = exp.Final(this=source)
    inner = sqlglot.select(star, dialect="clickhouse").from_(source)
    if tenancy is not None:
        inner = inner.where(exp.column("project").eq(exp.Literal.string(tenancy.project))).where(
            exp.column("environment").eq(exp.Literal.string(tenancy.environment))
        )
    table.replace(inner.subquery(alias=table.alias or table.name, copy=False))
