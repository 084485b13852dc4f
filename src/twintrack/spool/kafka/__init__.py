"""The durable queue of several nodes: a topic.

    door.py       splits a delivery by partition, sends it, answers    message.py, fallback.py
    partition.py  judges what was read of one partition                verdict.py: once, and for whoever takes over
    sieve.py      what is taken out then: erased people, expired events
    ledger.py     keeps verdicts and counts in the control data        tables.py
    housework.py  which loader erases and expires, and quiet for it    removals.py, fence.py
    look.py       rows of chunks as anybody may read them
    broker.py     is the only code that speaks to a broker

spool.py puts them together.
"""
