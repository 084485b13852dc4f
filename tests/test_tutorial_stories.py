"""The tutorial is true: its commands are run against a service, and every number that it shows is in the answer."""

import json
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.e2e.conftest import Running, start

PAGE = Path(__file__).parents[1] / "docs" / "tutorial-stories.md"
_BLOCK = re.compile(r"```(sh|json)\n(.*?)```", re.S)
BLOCKS = _BLOCK.findall(PAGE.read_text())
# Each question with the answer that is shown behind it.
SHOWN = [
    (code, json.loads(after))
    for (language, code), (next_language, after) in pairwise(BLOCKS)
    if (language, next_language) == ("sh", "json")
]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, str]]:
    running = start(tmp_path_factory.mktemp("stories") / "data")
    words = [shlex.split(line)[1:] for line in BLOCKS[0][1].splitlines()]
    assert words[0] == ["serve"]
    running.command(*words[1])
    key = running.command(*words[2]).strip()
    yield running, key
    assert running.stop() == 0


def _post(shop: tuple[Running, str], command: str) -> httpx.Response:
    """What the line does: `ask KIND JSON`, or curl with a method, a body and an address."""
    running, key = shop
    words = shlex.split(command)
    method, kind_of_body = "POST", 2
    path = f"/api/analytics/query/{words[1]}"
    if words[0] == "curl":
        method, kind_of_body = words[words.index("-X") + 1], words.index("--json") + 1
        path = words[-1].removeprefix("http://127.0.0.1:8080")
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.request(
        method, running.address + path, json=json.loads(words[kind_of_body]), headers=headers, timeout=60
    )


def _holds(answer: Any, shown: Any, place: str = "") -> None:
    """Every field that is shown is in the answer; a list that is shown is the beginning of the answer's."""
    if isinstance(shown, dict):
        for name, value in shown.items():
            _holds(answer[name], value, f"{place}.{name}")
    elif isinstance(shown, list):
        assert len(answer) >= len(shown), place
        for n, value in enumerate(shown):
            _holds(answer[n], value, f"{place}[{n}]")
    else:
        assert answer == (pytest.approx(shown) if isinstance(shown, float) else shown), place


def test_stories_are_found_with_the_numbers_that_are_shown(shop: tuple[Running, str]) -> None:
    assert len(SHOWN) >= 11
    for language, code in BLOCKS[2:]:
        if language == "sh" and code.startswith("curl"):
            assert _post(shop, code).status_code == 200
    for code, shown in SHOWN:
        answer = _post(shop, code)
        assert answer.status_code == 200, answer.text
        _holds(answer.json(), shown)


def test_line_that_asks_names_the_path_of_the_questions() -> None:
    assert "http://127.0.0.1:8080/api/analytics/query/$1" in BLOCKS[1][1]
