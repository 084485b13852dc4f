"""The newest head of each node's audit chain, away from its files: a chain that ends before it was cut or put back."""

from sqlalchemy import BigInteger, Column, Engine, String, Table, delete, insert, select

from twintrack.control.tables import metadata

audit_heads = Table(
    "audit_heads",
    metadata,
    Column("node", String(16), primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("kept_at", BigInteger, nullable=False),  # milliseconds
)


def keep(engine: Engine, node: str, sequence: int, hash: str, now_milliseconds: int) -> None:
    """One process writes a node's chain, so nobody else writes its row."""
    with engine.begin() as db:
        db.execute(delete(audit_heads).where(audit_heads.c.node == node))
        db.execute(insert(audit_heads).values(node=node, sequence=sequence, hash=hash, kept_at=now_milliseconds))


def kept(engine: Engine, node: str) -> tuple[int, str] | None:
    """(sequence, hash) of the last head that was kept of a node."""
    with engine.connect() as db:
        row = db.execute(select(audit_heads).where(audit_heads.c.node == node)).first()
    return (row.sequence, row.hash) if row else None
