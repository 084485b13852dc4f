"""Finds and masks: one cheap question over many rows, then the rules over the texts of those it cannot rule out.

RE2 runs every pattern and the rest are flat passes, so no input can stall it.
"""

import base64
import hashlib
import hmac
from bisect import bisect_left
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import re2

from twintrack.pii.bound import Crowded
from twintrack.pii.fold import fold, fold_row, foldable, spans_in_text
from twintrack.pii.rules import Action, Rule, RuleSet, built_in_names, quiet

_UUID = re2.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_UUID_CHARACTERS = 36
_KEEPS_UUIDS = frozenset({"secret", "credential", "api_key"})  # what these find may be one, or hold one


class Finding(NamedTuple):
    start: int
    end: int
    rule: str


class Masked(NamedTuple):
    """A text without its findings, the rules in order, and the strongest action that was asked for."""

    text: str
    rules: list[str]
    drop: bool = False
    quarantine: bool = False


class Masker:
    """The rules of one environment, compiled. Pure: the same text is masked the same way, on any thread."""

    def __init__(self, rules: RuleSet) -> None:
        self.version = rules.version
        self._rules = rules
        self._tokens = {rule.name: rule.token for rule in rules.rules}
        own = rules.allowed_texts or rules.allowed or {rule.name for rule in rules.rules} - built_in_names()
        # Our own rules do not tell one PIN from another; those of an operator, and what is allowed, may.
        self.small_numbers_are_alike = not own
        # What each request repeats, such as its user agent, is looked at once.
        self.is_clean = lru_cache(1024)(lambda text: not self.find(text))

    @property
    def rules(self) -> tuple[Rule, ...]:
        return self._rules.rules

    def action(self, rule: str) -> Action:
        """What becomes of this rule's findings."""
        return self._rules.actions.get(rule, Action.TOKEN)

    @cached_property
    def _gate(self) -> Any:
        """Whether any rule could match: every rule's `needs` in one automaton."""
        return re2.compile("|".join(f"(?:{rule.needs})" for rule in self._rules.rules), quiet())

    @cached_property
    def _row_gate(self) -> Any:
        """The same over encoded rows, where escapes and folded characters make a maybe."""
        needs = [
            rf"{foldable()}|\\|%[2-7][0-9a-fA-F]|&(?:#|[a-z]{{2,6}};)|\[[.@:]\]",
            *(f"(?:{rule.needs})" for rule in self._rules.rules),
        ]
        return re2.compile("|".join(needs), quiet())

    @cached_property
    def _which(self) -> Any:
        which = re2.Set.SearchSet(quiet())
        for rule in self._rules.rules:
            which.Add(rule.needs)
        which.Compile()
        return which

    def suspicious(self, encoded: bytes) -> bool:
        """Whether any rule could match a string inside this encoded row. False is final, True is a maybe."""
        return self._row_gate.search(encoded) is not None and self._gate.search(fold_row(encoded)) is not None

    def suspects(self, lines: bytes) -> list[int]:
        """Which of these encoded rows, a line each, are suspicious; their numbers from 0."""
        found, at, counted, line = [], 0, 0, 0
        search = self._row_gate.search
        while (match := search(lines, at)) is not None:
            start, end = match.span()
            uuid = _UUID.search(lines, max(0, start - _UUID_CHARACTERS), end + _UUID_CHARACTERS)
            if uuid is not None and uuid.start() <= start and end <= uuid.end():
                at = uuid.end()  # every row holds some, and one in fifty has the digits of a card
                continue
            line += lines.count(b"\n", counted, start)
            counted = start
            at = lines.find(b"\n", start)
            first = lines.rfind(b"\n", 0, start) + 1
            if self._gate.search(fold_row(lines[first : at if at >= 0 else len(lines)])) is not None:
                found.append(line)
            if at < 0:
                break
        return found

    def find(self, text: str) -> list[Finding]:
        """Every finding, left to right, not overlapping; where two overlap the stronger rule names both."""
        folded = fold(text)
        data = folded.data
        found: list[tuple[int, int, int]] = []
        for place in self._which.Match(data) or ():
            try:
                for start, end in self._rules.rules[place].find(data):
                    found.append((start, end, place))
            except Crowded as crowded:  # fails closed: what is not judged is masked
                found.append((crowded.start, len(data), place))
        if not found:
            return []
        found = _apart(self._without_uuids(data, sorted(found)))
        if self._rules.allowed_texts or self._rules.allowed:
            found = [item for item in found if not self._allowed(data[item[0] : item[1]])]
        spans = spans_in_text(folded, [(start, end) for start, end, _ in found])
        names = [self._rules.rules[place].name for _, _, place in found]
        return [Finding(start, end, name) for (start, end), name in zip(spans, names, strict=True)]

    def mask(self, text: str, key: bytes = b"") -> Masked:
        """The text with each finding replaced as its rule's action says; `key` is for pseudonyms."""
        return self.masked(text, self.find(text), key)

    def mask_member(self, name: str, value: str, key: bytes = b"") -> Masked:
        """The value of an object's member, found with the member's name as the words before it."""
        before = len(name) + 2
        found = [
            Finding(max(0, start - before), end - before, rule)
            for start, end, rule in self.find(f"{name}: {value}")
            if end > before
        ]
        return self.masked(value, found, key)

    def masked(self, text: str, found: list[Finding], key: bytes = b"") -> Masked:
        if not found:
            return Masked(text, [])
        actions = [self.action(finding.rule) for finding in found]
        parts, at = [], 0
        for (start, end, rule), action in zip(found, actions, strict=True):
            parts += [text[at:start], self._instead(text[start:end], rule, action, key)]
            at = end
        parts.append(text[at:])
        return Masked(
            "".join(parts), [f.rule for f in found], Action.DROP_FIELD in actions, Action.QUARANTINE in actions
        )

    def stored_identifier(self, identifier: str, key: bytes) -> tuple[str, list[str]]:
        """What is stored for an identifier: itself, or its pseudonym where a rule matches; and those rules."""
        rules = [f.rule for f in self.find(identifier)]
        return (pseudonym(identifier, key), rules) if rules else (identifier, [])

    def _instead(self, value: str, rule: str, action: Action, key: bytes) -> str:
        token = self._tokens[rule]
        if action is Action.LAST_FOUR:
            kept = [c for c in value if c.isalnum()]
            return f"{token[:-1]}_{''.join(kept[-4:])}]" if len(kept) >= 8 else token
        if action is Action.PSEUDONYM:
            return f"{token[:-1]}_{pseudonym(value, key)[2:14].upper()}]"
        return token

    def _without_uuids(self, data: bytes, found: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
        if data.count(b"-") < 4 or all(self._rules.rules[place].name in _KEEPS_UUIDS for _, _, place in found):
            return found
        uuids = [m.span() for m in _UUID.finditer(data)]
        if not uuids:
            return found
        starts = [start for start, _ in uuids]
        kept = []
        for start, end, place in found:
            before = bisect_left(starts, start + 1) - 1
            inside = before >= 0 and end <= uuids[before][1]
            if not inside or self._rules.rules[place].name in _KEEPS_UUIDS:
                kept.append((start, end, place))
        return kept

    def _allowed(self, value: bytes) -> bool:
        text = value.decode("utf-8", "replace")
        return text.casefold() in self._rules.allowed_texts or any(
            pattern.fullmatch(value) is not None for pattern in self._rules.allowed
        )


def _apart(found: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Findings in order without overlaps: those that overlap become one, by the first rule of the list."""
    kept: list[tuple[int, int, int]] = []
    for start, end, place in found:
        if kept and start < kept[-1][1]:
            first, last, other = kept[-1]
            kept[-1] = (first, max(last, end), min(place, other))
        else:
            kept.append((start, end, place))
    return kept


def pseudonym(identifier: str, key: bytes) -> str:
    """The keyed stored form of an identifier that holds personal data.

    Promises: depends on the identifier and the key alone, never on the rule that matched or its version;
    letter case and outer white space make no difference.
    """
    digest = hmac.new(key, identifier.strip().casefold().encode(), hashlib.sha256).digest()
    return "p_" + base64.b32encode(digest[:20]).decode().lower()
