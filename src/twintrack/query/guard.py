"""Foreign SQL, judged before it runs: one SELECT over known tables, no table functions, no reach outside.

The engine's `readonly` does not stop everything (scalar `file()` reads files, a second statement runs), so the
parse decides: what is not on a list is refused. Each table becomes a subquery of the caller's own project and
environment, so no clause can widen the scope. Source of the holes: chDB 26.9, tried one by one.
"""

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from twintrack.errors import RequestError
from twintrack.event import Tenancy
from twintrack.store.schema import DATABASE, HIDDEN_FROM_READ, READABLE, REPLACING

_MOST_CHARACTERS = 50_000

# Functions that sqlglot does not know by class must be on this list; those it knows are calculations.
_NAMES = """
    toDate toDateTime toDateTime64 toString toUInt8 toUInt16 toUInt32 toUInt64 toInt8 toInt16 toInt32 toInt64
    toFloat64 toFloat32 toUUID toStartOfHour toStartOfDay toStartOfWeek toStartOfMonth toStartOfMinute
    toStartOfQuarter toStartOfYear toStartOfInterval toStartOfFiveMinutes toStartOfFifteenMinutes toMonday toYYYYMM
    toYYYYMMDD toHour toDayOfWeek toDayOfMonth toMinute toMonth toYear toQuarter toUnixTimestamp toTypeName
    dateDiff dateAdd dateSub addDays addHours addMinutes addMonths subtractDays subtractHours subtractMonths
    formatDateTime now now64 today yesterday uniq uniqExact uniqHLL12 uniqCombined uniqCombined64 countIf sumIf
    avgIf minIf maxIf uniqIf uniqExactIf anyIf any anyLast argMin argMax quantile quantiles quantileExact
    quantilesExact quantileIf median groupArray groupUniqArray groupArrayIf topK sumMap uniqExactMerge uniqMerge
    uniqExactState sumMerge countMerge multiIf if ifNull nullIf coalesce assumeNotNull isNull isNotNull empty
    notEmpty length lengthUTF8 lower upper lowerUTF8 upperUTF8 substring substringUTF8 position startsWith endsWith
    concat replaceAll replaceOne replaceRegexpAll match extract extractAll splitByChar splitByString trim like ilike
    has hasAny hasAll indexOf arrayJoin arrayMap arrayFilter arrayExists arrayAll arraySum arrayCount arrayDistinct
    arraySort arrayReverseSort arrayElement arrayConcat arrayZip arrayEnumerate arrayFirst arraySlice range tuple
    tupleElement map mapKeys mapValues abs round floor ceil sqrt pow exp log log2 log10 intDiv modulo greatest least
    plus minus multiply divide negate equals notEquals less greater lessOrEquals greaterOrEquals and or not xor
    windowFunnel retention sequenceMatch sequenceCount lagInFrame leadInFrame row_number rank dense_rank
    first_value last_value JSONExtractString JSONExtractInt JSONExtractFloat JSONExtractBool JSONExtractRaw JSONHas
    JSONLength JSONAllPaths JSONAllPathsWithTypes toJSONString cityHash64 sipHash64 UUIDv7ToDateTime dynamicType
    dynamicElement cast accurateCastOrNull toInt64OrNull toFloat64OrNull toDateOrNull bar formatReadableQuantity
    cutQueryString path domain protocol queryString extractURLParameter stddevPop stddevSamp varPop varSamp corr
    toIntervalDay toIntervalHour toIntervalMinute toIntervalMonth toIntervalWeek toIntervalSecond toBool count sum
    avg min max runningDifference neighbor
    """
FUNCTIONS = tuple(_NAMES.split())
_FUNCTIONS = frozenset(_NAMES.lower().split())
_NEVER = (
    exp.Insert,
    exp.Update,
    exp.Delete,
    exp.Create,
    exp.Drop,
    exp.Alter,
    exp.Command,
    exp.Set,
    exp.Use,
    exp.Into,
    exp.Attach,
    exp.Detach,
    exp.Kill,
    exp.Pragma,
    exp.Describe,
    exp.Show,
)


def _no(message: str, hint: str) -> RequestError:
    return RequestError(message, hint=hint, code="sql_refused")


def scope(sql: str, tenancy: Tenancy | None, *, hide: bool = False) -> str:
    """The statement as it may run: checked, and each table cut to the tenancy (None: all of them, for an operator).

    Raises: RequestError that says what is not allowed; it never quotes the statement.
    """
    if len(sql) > _MOST_CHARACTERS:
        raise _no(f"the statement is longer than {_MOST_CHARACTERS} characters", "shorten it")
    try:
        statements = [s for s in sqlglot.parse(sql, read="clickhouse") if s is not None]
    except (SqlglotError, RecursionError, ValueError) as error:
        raise _no(
            "the statement cannot be read as one SELECT", "check the syntax; `LIMIT n BY x LIMIT m` is not read"
        ) from error
    if len(statements) != 1:
        raise _no(f"there are {len(statements)} statements", "send exactly one SELECT")
    statement = statements[0]
    if not isinstance(statement, exp.Query):
        raise _no("only SELECT is allowed", "reading cannot write")
    # WITH also names expressions; one of those is no table, whatever it looks like.
    names = {cte.alias_or_name.lower() for cte in statement.find_all(exp.CTE) if isinstance(cte.this, exp.Query)}
    for node in statement.walk():
        if isinstance(node, _NEVER):
            raise _no("only SELECT is allowed", "reading cannot write")
        if isinstance(node, exp.Func):
            _check_function(node)
        if isinstance(node, exp.In):
            _check_membership(node, names)
        if isinstance(node, exp.Query):
            if node.args.get("settings"):
                raise _no("SETTINGS are ours to set", "leave the SETTINGS clause out")
            if node.args.get("format"):
                raise _no("FORMAT is not part of the question", "use --format, or read the JSON answer")
    if names & {t.lower() for t in READABLE}:
        raise _no("a WITH name hides a table", "give the WITH query another name")
    for table in list(statement.find_all(exp.Table)):
        _check_table(table, names)
    for table in list(statement.find_all(exp.Table)):
        if table.name.lower() in names and not table.args.get("db"):
            continue
        if tenancy is None and table.name not in REPLACING:
            table.set("db", exp.to_identifier(DATABASE))
        else:
            _cut(table, tenancy, hide=hide)
    return statement.sql(dialect="clickhouse")


def _check_function(node: exp.Func) -> None:
    if isinstance(
        node,
        exp.Anonymous
        | exp.AnonymousAggFunc
        | exp.CombinedAggFunc
        | exp.ParameterizedAgg
        | exp.CombinedParameterizedAgg,
    ):
        name = str(node.this if isinstance(node.this, str) else node.name).lower()
        if name not in _FUNCTIONS:
            raise _no(f"the function {name[:60]} is not on the list", "docs/reference/sql.md lists what may be called")


def _check_membership(node: exp.In, names: set[str]) -> None:
    """A name alone behind IN is a table to the engine, though it reads as a column; in parentheses too."""
    listed = node.expressions
    behind = node.args.get("field") or (listed[0] if len(listed) == 1 else None)
    while isinstance(behind, exp.Paren):
        behind = behind.this
    named = isinstance(behind, exp.Column) and not behind.table and behind.name.lower() in names
    given = isinstance(behind, exp.Placeholder) and not isinstance(behind.args.get("kind"), exp.DataType)
    if given or (isinstance(behind, exp.Column) and not named):
        raise _no("a table's name cannot stand behind IN", "write IN (SELECT ... FROM ...)")


def _check_table(table: exp.Table, names: set[str]) -> None:
    if not isinstance(table.this, exp.Identifier):
        raise _no("table functions are not allowed", f"read from {', '.join(READABLE)}")
    database, name = table.db, table.name
    if table.args.get("catalog") or (database and database != DATABASE):
        raise _no("only the analytics database can be read", f"read from {', '.join(READABLE)}")
    if not database and name.lower() in names:
        return
    if name not in READABLE:
        raise _no("this table is unknown or not readable", f"read from {', '.join(READABLE)}")


def _cut(table: exp.Table, tenancy: Tenancy | None, *, hide: bool) -> None:
    """Puts a subquery of one tenancy in place of a table; `hide` replaces text of people by a mark.

    A table whose rows replace each other is read as if all of them had been merged: what came twice is there once.
    """
    if table.args.get("final") or table.args.get("sample"):
        raise _no("FINAL and SAMPLE are not needed", "every table is exact without them")
    hidden = HIDDEN_FROM_READ.get(table.name, {}) if hide else {}
    columns = "*" + (f" REPLACE ({', '.join(f'{e} AS {c}' for c, e in hidden.items())})" if hidden else "")
    source: exp.Expression = exp.Table(this=exp.to_identifier(table.name), db=exp.to_identifier(DATABASE))
    if table.name in REPLACING:
        source = exp.Final(this=source)
    inner = sqlglot.select(columns, dialect="clickhouse").from_(source)
    if tenancy is not None:
        inner = inner.where(exp.column("project").eq(exp.Literal.string(tenancy.project))).where(
            exp.column("environment").eq(exp.Literal.string(tenancy.environment))
        )
    table.replace(inner.subquery(alias=table.alias or table.name, copy=False))
