"""What is written is true: the references equal the code, and the README names what exists."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_reference_pages_equal_the_code() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_links_in_the_docs_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_commands_in_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text()
    make = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`?make ([a-z]+)", text)):
        assert re.search(rf"^{target}:", make, re.M), target
    for words in set(re.findall(r"twintrack ([a-z]+)", text)):
        done = subprocess.run(
            [sys.executable, "-m", "twintrack", words, "--help"], capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, words


def test_nothing_committed_reads_a_folder_outside_the_checkout() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    guilty = [
        name
        for name in tracked
        if (ROOT / name).suffix in (".py", ".ts", ".tsx", ".md", ".toml")
        and "../sha" + "red" in (ROOT / name).read_text()
    ]
    assert guilty == []


def test_metrics_and_settings_that_the_operations_pages_name_exist() -> None:
    named = "\n".join(page.read_text() for page in sorted((ROOT / "docs" / "operations").glob("*.md")))
    references = "\n".join((ROOT / "docs" / "reference" / name).read_text() for name in ("metrics.md", "settings.md"))
    named_there = re.findall(r"`\w+`", references)
    words = set(re.findall(r"\btwintrack_(?:ingest|spool|load)_\w+", named)) | set(re.findall(r"TWINTRACK_\w+", named))
    assert len(words) > 8
    missing = {word for word in words if not {f"`{word}`", f"`{word.removesuffix('_FILE')}`"} & set(named_there)}
    assert missing == set()
