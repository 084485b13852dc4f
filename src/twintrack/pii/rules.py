"""The rules as data: the built-in ones of `rules.toml`, and a settings file that changes and adds to them.

A settings file is judged whole: every fault is told at once, with what to do.
"""

import hashlib
import tomllib
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import re2

from twintrack.errors import SettingsError
from twintrack.pii import address, credential, network, numbers, pem, phone, secret
from twintrack.pii.bound import CHEAP_BYTES, EVERY_BYTES, candidates
from twintrack.pii.wrapped import over_breaks, wrapped

Spans = Iterator[tuple[int, int]]
Finder = Callable[[bytes], Spans]


class Action(StrEnum):
    """What becomes of a finding."""

    TOKEN = "token"  # noqa: S105 - the rule's typed token
    LAST_FOUR = "last_four"  # the token with the last four letters and digits
    PSEUDONYM = "pseudonym"  # the token with a keyed hash, the same for the same value
    DROP_FIELD = "drop_field"  # the whole text goes
    QUARANTINE = "quarantine"  # the event is kept without any of its texts


class Rule(NamedTuple):
    """`find` is asked only about texts in which `needs` matches, so that a row in which no `needs` matches has none."""

    name: str
    token: str
    needs: str
    find: Finder


class _Given(msgspec.Struct, forbid_unknown_fields=True):
    """A rule as a file writes it."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
    pattern: str = ""
    needs: str = ""
    token: Annotated[str, msgspec.Meta(pattern=r"^\[[A-Z][A-Z0-9_]{0,31}\]$")] | None = None
    check: str = ""
    forms: list[str] = []
    words: list[str] = []
    wraps: bool = False
    action: Action = Action.TOKEN
    on: bool = True


class _Allow(msgspec.Struct, forbid_unknown_fields=True):
    """What is left alone: whole findings, without regard to case, and patterns that cover a whole finding."""

    texts: list[str] = []
    patterns: list[str] = []


class _Environment(msgspec.Struct, forbid_unknown_fields=True):
    actions: dict[str, Action] = {}


class _File(msgspec.Struct, forbid_unknown_fields=True):
    version: str = ""
    on: list[str] = []
    off: list[str] = []
    actions: dict[str, Action] = {}
    rules: list[_Given] = []
    allow: _Allow = msgspec.field(default_factory=_Allow)
    environments: dict[str, _Environment] = {}


class RuleSet(NamedTuple):
    """What one environment is masked by. `version` is stamped on each event."""

    version: str
    rules: tuple[Rule, ...]
    actions: dict[str, Action]
    allowed_texts: frozenset[str]
    allowed: tuple[Any, ...]


_CHECKS = {
    "card": numbers.cards,
    "ssn": numbers.ssn,
    "iban": numbers.iban,
    "ip": network.ip,
    "mixed": credential.mixed,
}
_CHEAP = (numbers.ssn, network.ip)
_WHOLE: dict[str, tuple[str, Finder]] = {
    "email": (address.NEEDS, address.emails),
    "phone": (phone.NEEDS, phone.phones),
    "private_key": (pem.NEEDS, pem.private_keys),
    "secret": (secret.NEEDS, secret.secrets),
}


def quiet() -> Any:
    """Options under which a refused pattern is an error and no line on stderr, with room for large alternations."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 64 << 20
    return options


def _by_pattern(pattern: str, group: int = 0) -> Finder:
    compiled = re2.compile(pattern, quiet())

    def find(data: bytes) -> Spans:
        return (match.span(group) for match in candidates(compiled, data))

    return find


def _checked(pattern: str, check: Callable[[bytes, int, int], Spans]) -> Finder:
    compiled = re2.compile(pattern, quiet())
    every_bytes = CHEAP_BYTES if check in _CHEAP else EVERY_BYTES

    def find(data: bytes) -> Spans:
        for match in candidates(compiled, data, every_bytes):
            yield from check(data, *match.span())

    return find


def _and_wrapped(pattern: str, whole: Finder) -> Finder:
    compiled = re2.compile(pattern, quiet())

    def find(data: bytes) -> Spans:
        yield from whole(data)
        yield from wrapped(compiled, data)

    return find


def _rule(given: _Given) -> Rule:
    """Raises: re2.error."""
    token = given.token or f"[{given.name.upper()}]"
    if given.check in _WHOLE:
        needs, find = _WHOLE[given.check]
        return Rule(given.name, token, needs, over_breaks(find) if given.wraps else find)
    pattern, needs = given.pattern, given.needs or given.pattern
    if given.forms:
        # A form may stand beside letters of other scripts, never inside a word.
        pattern = r"\b(?:" + "|".join(given.forms) + ")"
    if given.words:
        beside = "(?i:" + "|".join(given.words) + r")[^\n]{0,40}?"
        needs, find = f"(?:{beside})(?:{pattern})", _by_pattern(f"(?:{beside})({pattern})", 1)
    elif given.check == "credential":
        find = credential.credentials
    elif given.check == "group":
        find = _by_pattern(pattern, 1)
    elif given.check:
        find = _checked(pattern, _CHECKS[given.check])
    else:
        find = _by_pattern(pattern)
    if given.wraps:
        find = _and_wrapped(pattern, find) if pattern else over_breaks(find)
    return Rule(given.name, token, needs, find)


@cache
def _built_in() -> tuple[str, tuple[tuple[_Given, Rule], ...]]:
    raw = tomllib.loads((resources.files("twintrack.pii") / "rules.toml").read_text(encoding="utf-8"))
    given = msgspec.convert(raw["rules"], list[_Given])
    return raw["version"], tuple((rule, _rule(rule)) for rule in given)


def built_in() -> RuleSet:
    version, rules = _built_in()
    return RuleSet(version, tuple(rule for given, rule in rules if given.on), {}, frozenset(), ())


def built_in_names() -> frozenset[str]:
    """Of every rule that comes with us, switched on or not."""
    return frozenset(given.name for given, _ in _built_in()[1])


def load(path: Path) -> dict[str, RuleSet]:
    """The rule sets of a file by environment; `""` is every other one.

    Raises: SettingsError with every fault of the file.
    """
    try:
        content = path.read_bytes()
        raw = tomllib.loads(content.decode())
    except OSError as error:
        raise SettingsError(f"cannot read the masking rules: {error.strerror}", hint=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the masking rules are not TOML: {error}", hint=str(path)) from error
    faults: list[str] = []
    file = _convert(raw, faults)
    version, known = _built_in()
    names = {given.name for given, _ in known}
    own, actions = _own(file.rules, names, faults)
    every = names | {rule.name for rule in file.rules}
    for where, mapping in (
        ("actions", file.actions),
        *((f"environments.{n}.actions", e.actions) for n, e in file.environments.items()),
    ):
        faults += [
            f"{where}: there is no rule {name}; rules: {', '.join(sorted(every))}"
            for name in mapping
            if name not in every
        ]
    for where, listed in (("on", file.on), ("off", file.off)):
        faults += [
            f"{where}: there is no rule {name}; rules: {', '.join(sorted(every))}"
            for name in listed
            if name not in every
        ]
    allowed = [
        found
        for n, pattern in enumerate(file.allow.patterns, 1)
        if (found := _compiled(f"allow.patterns {n}", pattern, faults))
    ]
    if faults:
        raise SettingsError("masking rules: " + "; ".join(faults), hint=f"{path}; docs/masking.md shows the form")
    rules = tuple(
        rule for given, rule in known if (given.on or given.name in file.on) and given.name not in file.off
    ) + tuple(rule for rule in own if rule.name not in file.off)
    stamp = f"{version}+{file.version + '.' if file.version else ''}{hashlib.sha256(content).hexdigest()[:8]}"
    texts = frozenset(text.casefold() for text in file.allow.texts)
    base = RuleSet(stamp, rules, actions | file.actions, texts, tuple(allowed))
    return {"": base} | {
        name: base._replace(actions=base.actions | environment.actions)
        for name, environment in file.environments.items()
    }


def _convert(raw: dict[str, Any], faults: list[str]) -> _File:
    """The file's parts, each judged by itself, so that one fault does not hide the next."""
    file = _File()
    types = {field.name: field.type for field in msgspec.structs.fields(_File)}
    for name, value in raw.items():
        if name not in types:
            faults.append(f"{name} is unknown; parts: {', '.join(types)}")
            continue
        if name == "rules" and isinstance(value, list):
            for number, item in enumerate(value, 1):
                try:
                    file.rules.append(msgspec.convert(item, _Given))
                except msgspec.ValidationError as error:
                    faults.append(f"rules {number}: {error}")
            continue
        try:
            setattr(file, name, msgspec.convert(value, types[name]))
        except msgspec.ValidationError as error:
            faults.append(f"{name}: {error}")
    return file


def _own(given: list[_Given], taken: set[str], faults: list[str]) -> tuple[list[Rule], dict[str, Action]]:
    rules, actions, seen = [], {}, set(taken)
    for rule in given:
        where = f"rule {rule.name}"
        if rule.name in seen:
            faults.append(f"{where}: the name is taken; choose another, or change a built-in rule under [actions]")
        seen.add(rule.name)
        if rule.check or rule.forms or rule.needs or rule.wraps:
            faults.append(
                f"{where}: check, forms, needs and wraps belong to built-in rules; write `pattern` and `words`"
            )
            continue
        if not rule.pattern:
            faults.append(f"{where}: pattern is missing; write an RE2 pattern of the value")
            continue
        compiled = _compiled(f"{where}: pattern", rule.pattern, faults)
        words = [_compiled(f"{where}: word {n}", word, faults) for n, word in enumerate(rule.words, 1)]
        if compiled is None or None in words:
            continue
        if compiled.search(b"") is not None:
            faults.append(f"{where}: pattern matches the empty text; ask for at least one character")
            continue
        if _anchored(rule.pattern):
            faults.append(
                f"{where}: pattern holds ^ or $; a value is looked for anywhere in a text, use \\b at its ends"
            )
            continue
        rules.append(_rule(rule))
        actions[rule.name] = rule.action
    return rules, actions


def _anchored(pattern: str) -> bool:
    """Whether it asks for the start or end of the text, which a whole row does not have where its strings do."""
    bare = pattern.replace("\\\\", "").replace(r"\^", "").replace(r"\$", "").replace("[^", "[")
    return any(mark in bare for mark in ("^", "$", r"\A", r"\z"))


def _compiled(where: str, pattern: str, faults: list[str]) -> Any:
    try:
        return re2.compile(pattern, quiet())
    except re2.error as error:
        reason = error.args[0] if error.args else "refused"
        reason = reason.decode() if isinstance(reason, bytes) else reason
        faults.append(f"{where} is refused by RE2 ({reason}); it has no look-around and no back-references")
        return None
