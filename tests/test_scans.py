"""The scans of `make check` find what they are for."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def dependencies() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dependencies", ROOT / ".ci" / "dependencies.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scan(folder: Path, name: str, text: str) -> int:
    (folder / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "secrets", folder / ".ci")
    place = folder / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    (folder / "tests").mkdir(exist_ok=True)
    (folder / "tests" / "test_x.py").write_text("password = 'sesame open'\n")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    subprocess.run(["git", "add", "-A"], cwd=folder, check=True)
    return subprocess.run(
        ["sh", ".ci/secrets"],
        cwd=folder,
        env={"BIN": str(Path(sys.executable).parent), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        check=False,
    ).returncode


@pytest.mark.parametrize(
    "name,text,found",
    [
        ("src/app.py", "token = 'ghp_" + "a1B2" * 9 + "'\n", True),
        ("tests/test_app.py", "token = 'ghp_" + "a1B2" * 9 + "'\n", True),
        ("docs/run.md", "export DATABASE=postgres://admin:" + "Tr0ub4dor@db.example.com/x\n", True),
        ("src/key.pem", "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEow\n", True),
        ("src/app.py", "name = 'no secret at all'\n", False),
    ],
)  # fmt: skip
def test_secret_in_a_tracked_file_is_found(tmp_path: Path, name: str, text: str, found: bool) -> None:
    assert (scan(tmp_path, name, text) != 0) == found


def test_hole_of_a_python_package_is_named_and_what_cannot_be_asked_is_counted(dependencies: ModuleType) -> None:
    report = {
        "dependencies": [
            {"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1"}]},
            {"name": "b", "version": "2", "vulns": []},
            {"name": "c", "skip_reason": "not found"},
        ]
    }
    assert dependencies.python_says(json.dumps(report)) == (["a 1: PYSEC-1"], 2, 1)


def test_hole_of_a_node_package_is_named_and_no_answer_is_no_hole(dependencies: ModuleType) -> None:
    assert dependencies.node_says(json.dumps({"vulnerabilities": {"left": {"severity": "high"}}})) == ["left: high"]
    assert dependencies.node_says(json.dumps({"error": {"code": "ENOAUDIT"}})) is None


def test_scan_that_can_ask_nobody_does_not_fail(dependencies: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    dependencies.PYTHON = dependencies.NODE = ["false"]
    assert dependencies.main() == 0
    assert capsys.readouterr().out.count("NOT CHECKED") == 2
