"""An index that was read is not kept in this process's memory, and is not lost by that."""

from pathlib import Path
from uuid import UUID

import pytest

from twintrack.spool.claims import Claims, claim_key, project_tag


def resident_kilobytes(file: Path) -> int:
    """How much of a mapped file stands in this process's memory. Source: proc_pid_smaps(5)."""
    inside, total = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            inside = line.endswith(str(file.resolve()))
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="memory is told by /proc")
def test_claims_released_leave_memory_and_still_hold(tmp_path: Path) -> None:
    claims = Claims(tmp_path / "index", 1 << 30)
    ids = [(0x0199_0000_0000 << 80 | 7 << 76 | 2 << 62 | n << 8).to_bytes(16, "big") for n in range(200_000)]
    claims.add((i + project_tag("shop"), False) for i in ids)
    try:
        assert all(claims.holds(UUID(bytes=i), "shop") for i in ids[::50])
        assert resident_kilobytes(tmp_path / "index" / "data.mdb") > 4_000
        claims.release()
        assert resident_kilobytes(tmp_path / "index" / "data.mdb") < 200
        assert all(claims.holds(UUID(bytes=i), "shop") for i in ids[::50])
        transaction, verdicts = claims.claim([([claim_key(ids[7], "shop")], False)])
        transaction.abort()
        assert verdicts == [[False]]
    finally:
        claims.close()
