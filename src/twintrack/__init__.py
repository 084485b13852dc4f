"""Twintrack: every product event to your vendors and to your own ClickHouse, and proof that both agree."""

__version__ = "0.1.0"
