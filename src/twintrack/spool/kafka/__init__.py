"""The durable queue of several nodes: a topic.

    door.py       splits a delivery by partition, sends it, answers    message.py, fallback.py
    partition.py  judges what was read of one partition                verdict.py: once, and for whoever takes over
    ledger.py     keeps verdicts and counts in the control data        tables.py
    broker.py     is the only code that speaks to a broker

spool.py puts them together.
"""
