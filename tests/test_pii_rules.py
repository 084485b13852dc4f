"""The masking engine against its labelled set, its rules file, its filter, and texts made to stall it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import re2
from benchmarks.adversarial import PIECES, text
from benchmarks.masking import CATEGORIES, judge, labelled
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.work import calls_of
from twintrack import pii
from twintrack.errors import SettingsError
from twintrack.pii.bound import Crowded, candidates, most_candidates

PII = pii.default()
SET = labelled()
VECTORS = json.loads((Path(__file__).parents[1] / "contract" / "vectors" / "mask_full.json").read_text())


@pytest.mark.parametrize("half", ["tune", "held_out"])
def test_labelled_set_is_found_and_clean_lines_are_left_alone(half: str) -> None:
    chosen = [entry for entry in SET if entry["half"] == half]
    counts = judge(chosen, [[(f.start, f.end) for f in PII.find(entry["text"])] for entry in chosen])
    shares = {name: good / every for name, (good, every) in counts.items()}
    assert shares["all"] >= 0.97
    assert min(shares[name] for name in CATEGORIES) >= 0.93, shares
    assert shares["clean"] >= 0.99


@pytest.mark.parametrize("name", ["unseen.jsonl", "rounds.jsonl", "blind.jsonl", "crossed.jsonl"])
def test_strings_that_were_written_unseen_are_still_found_and_lookalikes_left_alone(name: str) -> None:
    path = Path(__file__).parent / "data" / "masking" / name
    chosen = [json.loads(line) for line in path.read_text().splitlines()]
    counts = judge(chosen, [[(f.start, f.end) for f in PII.find(entry["text"])] for entry in chosen])
    shares = {name: good / every for name, (good, every) in counts.items()}
    assert shares["all"] >= 0.99 and shares["clean"] >= 0.99, counts


def test_labelled_set_is_large_and_the_halves_are_split_by_hash() -> None:
    assert len(SET) >= 900
    assert len({entry["language"] for entry in SET}) >= 10
    assert {entry["half"] for entry in SET} == {"tune", "held_out"}


@pytest.mark.parametrize("vector", VECTORS["texts"], ids=lambda v: v["text"][:30])
def test_text_is_masked_as_the_full_vectors_say(vector: dict[str, Any]) -> None:
    assert PII.mask(vector["text"])[:2] == (vector["masked"], vector["rules"])


some = st.sampled_from([entry["text"] for entry in SET])


@settings(max_examples=400, deadline=None)
@given(st.text(max_size=30), some, st.text(max_size=30))
def test_row_with_a_finding_is_always_suspicious_for_every_rule(before: str, middle: str, after: str) -> None:
    message = before + middle + after
    if PII.find(message):
        row = msgspec.json.encode({"x": message, "n": 1})
        assert PII.suspicious(row)
        assert PII.suspects(b'["clean"]\n' + row + b'\n["clean"]') == [1]


@pytest.mark.parametrize("entry", [e for e in SET if e["spans"]], ids=lambda e: e["id"])
def test_row_of_each_labelled_line_is_suspicious(entry: dict[str, Any]) -> None:
    if PII.find(entry["text"]):
        assert PII.suspects(msgspec.json.encode({"x": entry["text"]})) == [0]


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=20), st.text(alphabet="\u200b\u00ad\ufeff\u2060", max_size=3), st.text(max_size=20))
def test_findings_lie_where_the_text_has_them(before: str, hidden: str, after: str) -> None:
    """Offsets lead back through folding: what is cut out is the address as it was written, hidden marks included."""
    message = f"{before} \u4f60 ｃ: ada{hidden}@exam{hidden}ple.com \u4f60 {after}"
    masked = PII.mask(message).text
    assert "exam" not in masked.removeprefix(before).removesuffix(after) or "exam" in before + after
    for start, end, _ in PII.find(message):
        assert 0 <= start < end <= len(message)


@pytest.mark.parametrize("entry", SET, ids=lambda e: e["id"])
def test_masked_line_is_masked_to_itself(entry: dict[str, Any]) -> None:
    once = PII.mask(entry["text"]).text
    assert PII.mask(once).text == once


def test_token_of_a_number_is_no_word_beside_the_next_number() -> None:
    assert PII.mask("[PHONE] 12345678").text == "[PHONE] 12345678"
    assert PII.mask("password [SECRET] Abcdef12345!x").text == "password [SECRET] Abcdef12345!x"


@pytest.mark.parametrize("piece", PIECES.values(), ids=PIECES.keys())
def test_work_grows_no_faster_than_the_text(piece: str) -> None:
    """Counts every call that Python makes while it masks; RE2 itself is linear by construction."""

    small, large = (calls_of(lambda n=n: PII.find(text(piece, n))) for n in (4_000, 16_000))  # type: ignore[misc]
    assert large <= 5 * small + 2_000


def test_context_of_a_members_name_is_seen_and_its_own_text_is_not_counted_twice() -> None:
    assert PII.mask_member("password", "hunter22").text == "[SECRET]"
    assert PII.mask_member("x", "hunter22").text == "hunter22"
    assert PII.mask_member("ada@example.com", "1").text == "1"
    assert PII.mask_member("phone", "4155550132").text == "[PHONE]"
    assert PII.mask_member("order", "415-555-0132").text == "415-555-0132"


def rules_file(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "masking.toml"
    path.write_text(content)
    return path


GOOD = r"""
version = "shop-3"
on = ["passport"]
off = ["ip"]

[actions]
card = "last_four"

[environments.staging.actions]
email = "pseudonym"

[[rules]]
name = "employee"
pattern = 'E-\d{6}'
token = "[EMPLOYEE]"

[[rules]]
name = "badge"
pattern = '\d{5}'
words = ['badge', 'Ausweis']
action = "drop_field"

[allow]
texts = ["support@shop.example"]
patterns = ['[a-z]+@status\.example']
"""


def test_rules_file_changes_actions_adds_rules_and_allows(tmp_path: Path) -> None:
    maskers = pii.Maskers(rules_file(tmp_path, GOOD))
    masker = maskers.of("production")
    assert masker is not None
    assert masker.version.startswith("5+shop-3.")
    assert masker.mask("card 4111 1111 1111 1111").text == "card [CARD_1111]"
    assert masker.mask("E-123456 at 203.0.113.7").text == "[EMPLOYEE] at 203.0.113.7"
    assert masker.mask("passport: X1234567").text == "passport: [PASSPORT]"
    assert masker.mask("Support@shop.example, bot@status.example, ada@shop.example").text == (
        "Support@shop.example, bot@status.example, [EMAIL]"
    )
    assert masker.mask("badge no 12345").drop and not masker.find("12345")


def test_environment_has_actions_of_its_own(tmp_path: Path) -> None:
    maskers = pii.Maskers(rules_file(tmp_path, GOOD))
    staging, production = maskers.of("staging"), maskers.of("production")
    assert staging is not None and production is not None
    first, second = (staging.mask(f"{name}@shop.example", b"k").text for name in ("ada", "ADA"))
    assert first == second and first.startswith("[EMAIL_") and first != staging.mask("ada@shop.example", b"l").text
    assert production.mask("ada@shop.example").text == "[EMAIL]"
    assert staging.mask("card 4111 1111 1111 1111").text == "card [CARD_1111]"


def test_masked_text_with_other_actions_is_masked_to_itself(tmp_path: Path) -> None:
    staging = pii.Maskers(rules_file(tmp_path, GOOD)).of("staging")
    assert staging is not None
    once = staging.mask("card 4111 1111 1111 1111, ada@shop.example", b"k").text
    assert staging.mask(once, b"k").text == once


def test_rules_file_tells_every_fault_at_once(tmp_path: Path) -> None:
    bad = r"""
colour = "red"
off = ["nothing"]
[actions]
card = "burn"
[[rules]]
name = "ahead"
pattern = 'a(?=b)'
[[rules]]
name = "card"
pattern = 'x'
[[rules]]
name = "empty"
pattern = 'x*'
[[rules]]
name = "ends"
pattern = '^x$'
[[rules]]
name = "Bad Name"
pattern = 'x'
[[rules]]
name = "none"
[allow]
patterns = ['(']
"""
    with pytest.raises(SettingsError) as caught:
        pii.Maskers(rules_file(tmp_path, bad))
    told = caught.value.message
    for part in (
        "colour is unknown",
        "off: there is no rule nothing",
        "actions: Invalid enum value 'burn'",
        "rule ahead: pattern is refused by RE2 (invalid perl operator: (?=)",
        "rule card: the name is taken",
        "rule empty: pattern matches the empty text",
        "rule ends: pattern holds ^ or $",
        "rules 5:",
        "rule none: pattern is missing",
        "allow.patterns 1 is refused by RE2 (missing ): (",
    ):
        assert part in told, (part, told)


def test_rules_file_that_is_missing_or_no_toml_says_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read the masking rules"):
        pii.Maskers(tmp_path / "none.toml")
    with pytest.raises(SettingsError, match="are not TOML"):
        pii.Maskers(rules_file(tmp_path, "= ="))


def run_filter(lines: bytes, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "twintrack", "mask", *arguments],
        input=lines,
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_filter_answers_each_line_in_order() -> None:
    lines = b'{"id": 7, "text": "mail ada@example.com"}\n\n{"text": "plain", "more": 1}\n{"id": "x", "text": "half \\ud83c"}'
    done = run_filter(lines)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"id": 7, "masked": "mail [EMAIL]", "found": [{"rule": "email", "start": 5, "end": 20}]},
        {"id": None, "masked": "plain", "found": []},
        {"id": "x", "masked": "half \ufffd", "found": []},
    ]


def test_filter_leaves_out_what_it_cannot_read_and_does_not_repeat_it() -> None:
    done = run_filter(b'ada@example.com\n{"id": 1, "text": 5}\n{"id": 2, "text": "ok"}\n')
    assert done.returncode == 1
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [2]
    assert b"line 1" in done.stderr and b"line 2" in done.stderr and b"ada@" not in done.stderr


def test_filter_takes_a_rules_file_and_tells_its_faults(tmp_path: Path) -> None:
    good = run_filter(b'{"id":1,"text":"E-123456"}\n', "--rules", str(rules_file(tmp_path, GOOD)))
    assert json.loads(good.stdout)["masked"] == "[EMPLOYEE]"
    bad = run_filter(b"", "--rules", str(rules_file(tmp_path, "colour = 1")))
    assert bad.returncode == 1 and b"colour is unknown" in bad.stderr


@pytest.mark.parametrize("piece", PIECES.values(), ids=PIECES.keys())
def test_work_for_each_character_is_bounded(piece: str) -> None:
    """Whatever the text is made of: calls for each of its characters, where judging every `key=` took more than 500."""
    PII.find("\xe9 ada@example.com")  # tables are built once
    assert calls_of(lambda: PII.find(text(piece, 40_000))) <= 25 * 40_000


def test_candidates_beyond_the_bound_are_not_judged_and_the_rest_of_the_text_is_masked() -> None:
    crowded = "key=" * 1_000
    pattern = re2.compile("key=")
    judged = []
    with pytest.raises(Crowded) as caught:
        judged += candidates(pattern, crowded.encode())
    assert len(judged) <= most_candidates(4_000) < 1_000
    assert caught.value.start == 4 * most_candidates(4_000)
    masked = PII.mask(f"before {crowded}Abcdef12345678901234")
    assert masked.text.startswith("before key=") and masked.text.endswith("key=[CREDENTIAL]")


@pytest.mark.parametrize(
    "line",
    [
        "08:30:00 GET /a 200\n",
        "12:30:45 ",
        "2024-03-15 08:30:00.123 key lookup in cache took 12 ms\n",
        '{"key":"a","value":1},',
        "the token count is 12; ",
        "call 12 ms, 4512345 rows; ",
        "contact,1234567\n7654321\n",
    ],
)
def test_long_text_that_is_no_garbage_is_not_crowded(line: str) -> None:
    assert not any(end == 65_536 for _, end, _ in PII.find((line * 65_536)[:65_535] + "."))
