"""Delivery of the browser SDK under faults, many seeds a case: `make bench-sdk`, or `python -m benchmarks.sdk --seeds 20`.

Each seed writes one line of JSON as it ends; the table at the end counts them. The exit code is 1 where an event was lost or
doubled, or where a fault did not strike.
"""

import argparse
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from playwright.sync_api import sync_playwright
from tests.e2e.conftest import start
from tests.sdk.cases import CASES, Bench, Line

SDK = Path(__file__).parents[1] / "packages/browser/dist/twintrack.global.js"


def table(lines: list[Line]) -> str:
    by_case: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        by_case[line.case].append(line)
    head = "| case | seeds | tracked | eligible | rows | lost | doubled | without proof | requests a seed |"
    rows = [head, "|---|" + "---:|" * 8]
    for case, of in by_case.items():
        sums = [sum(getattr(line, name) for line in of) for name in ("tracked", "eligible", "rows", "lost", "doubled")]
        blind = sum(not line.proof for line in of)
        mean = sum(line.requests for line in of) / len(of)
        rows.append(f"| {case} | {len(of)} | {' | '.join(map(str, sums))} | {blind} | {mean:.1f} |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="seeds of each case (default: 100)")
    parser.add_argument("--first", type=int, default=1, help="the first seed (default: 1)")
    parser.add_argument("--case", action="append", choices=list(CASES), help="only this case; may be repeated")
    options = parser.parse_args()
    if not SDK.exists():
        print("the SDK is not built: run `npm run build -w @twintrack/browser`", file=sys.stderr)
        return 2
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as folder:
        running = start(Path(folder) / "data")
        try:
            with sync_playwright() as playwright:
                bench = Bench(playwright, running, SDK)
                for seed in range(options.first, options.first + options.seeds):
                    for case in options.case or CASES:
                        lines.append(bench.run(case, seed))
                        print(lines[-1].text(), flush=True)
                late = bench.late_doubles()
                bench.close()
        finally:
            running.stop()
    print(table(lines))
    print(f"doubled after all: {late}")
    return int(late > 0 or not all(line.passed for line in lines))


if __name__ == "__main__":
    raise SystemExit(main())
