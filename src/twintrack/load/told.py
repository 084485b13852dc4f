"""What metrics and spans are told about one chunk: its steps, also of a try that fails."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from twintrack.clock import Clock
from twintrack.errors import StoreError
from twintrack.metrics import Metrics
from twintrack.spans import Loaded, Spans
from twintrack.spool.protocol import Chunk


@contextmanager
def told(chunk: Chunk, clock: Clock, metrics: Metrics, spans: Spans | None) -> Iterator[Callable[[str], None]]:
    """Times the steps of one chunk; `step(name)` ends a step. What fails is the step that was under way."""
    now, failed = clock.monotonic_seconds, ""
    steps: list[tuple[str, float, float]] = []
    before = now()

    def step(name: str) -> None:
        nonlocal before
        steps.append((name, before, now()))
        before = steps[-1][2]

    try:
        yield step
    except StoreError as error:
        failed = error.code
        step("settle" if steps else "insert")
        raise
    finally:
        for name, start, end in steps:
            metrics.load_steps[name].observe(end - start)
        if spans is not None and steps:
            spans.chunk(Loaded(chunk.chunk_id, chunk.kind.value, chunk.rows, failed), steps)
