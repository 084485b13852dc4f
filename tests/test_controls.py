"""Every claim of the security pages leads to a test that is there; what is not built says so."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "SECURITY.md", ROOT / "docs" / "threat-model.md", *sorted((ROOT / "docs" / "controls").glob("*.md"))]
_NAMED = re.compile(r"`((?:tests/[\w/]+\.py|packages/[\w/-]+\.test\.tsx?))::([^`]+)`")
# As vitest has them: it("words", ...), also over a table.
_WORDS = re.compile(r"""\b(?:it|test)(?:\.each\([^)]*\))?\(\s*(["'`])(.+?)\1""")


@cache
def names_in(file: str) -> frozenset[str]:
    if not (ROOT / file).exists():
        return frozenset()
    if not file.endswith(".py"):
        return frozenset(words for _, words in _WORDS.findall((ROOT / file).read_text()))
    found = ast.walk(ast.parse((ROOT / file).read_text()))
    return frozenset(
        node.name
        for node in found
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    )


def rows(page: Path) -> list[str]:
    """Rows of the tables that end with a column of tests."""
    lines = [*page.read_text().splitlines(), ""]
    return [
        line
        for number, line in enumerate(lines)
        if line.startswith("| ") and not line.startswith("| ---") and not lines[number + 1].startswith("| ---")
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    named = _NAMED.findall(page.read_text())
    assert named
    assert [f"{file}::{name}" for file, name in named if name not in names_in(file)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_claim_has_a_test_or_says_whose_it_is(page: Path) -> None:
    claims = rows(page)
    assert claims
    last_cells = {line: line.rsplit("|", 2)[1] for line in claims}
    bare = [c for c in last_cells.values() if not (_NAMED.search(c) or "yours" in c or "not yet" in c)]
    assert bare == []
