"""Known holes in what we depend on, by pip-audit and npm audit; fails on a hole, and only says so where nobody can be asked.

Both ask advisory databases over the network: a machine without them cannot check, and must still be able to build.
"""

import json
import subprocess
import sys
from typing import Any

SECONDS = 60
PYTHON = [sys.executable, "-m", "pip_audit", "-r", "requirements.txt", "--no-deps", "--disable-pip", "--format", "json"]
NODE = ["npm", "audit", "--omit=dev", "--json"]


def python_says(output: str) -> tuple[list[str], int, int]:
    """(holes, packages that were asked about, packages that could not be)."""
    found: list[dict[str, Any]] = json.loads(output)["dependencies"]
    holes = [f"{d['name']} {d['version']}: {v['id']}" for d in found for v in d.get("vulns", ())]
    unknown = sum("skip_reason" in d for d in found)
    return holes, len(found) - unknown, unknown


def node_says(output: str) -> list[str] | None:
    """Holes; None where the registry has no answer."""
    report = json.loads(output)
    if "vulnerabilities" not in report:
        return None
    return [f"{name}: {hole['severity']}" for name, hole in report["vulnerabilities"].items()]


def ask(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def main() -> int:
    holes = []
    try:
        found, asked, unknown = python_says(ask(PYTHON))
        holes += found
        print(f"pip-audit: {asked} packages asked about, {unknown} could not be: their index has no advisories")
    except (ValueError, KeyError):
        print("pip-audit: NOT CHECKED, its advisory database cannot be reached from here")
    try:
        answer = node_says(ask(NODE))
    except (ValueError, KeyError):
        answer = None
    if answer is None:
        print("npm audit: NOT CHECKED, the registry has no advisories or cannot be reached from here")
    else:
        holes += answer
        print("npm audit: asked about all packages")
    for hole in holes:
        print(f"HOLE {hole}", file=sys.stderr)
    return 1 if holes else 0


if __name__ == "__main__":
    sys.exit(main())
