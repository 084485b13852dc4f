"""Runs one other package over the labelled set, in its own environment; prints its spans and speed as JSON."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any


def presidio() -> Callable[[str], list[tuple[int, int]]]:
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import NlpEngine  # noqa: F401

    registry = RecognizerRegistry()
    registry.load_predefined_recognizers()
    engine = AnalyzerEngine(registry=registry)
    return lambda text: [(r.start, r.end) for r in engine.analyze(text=text, language="en")]


def datafog() -> Callable[[str], list[tuple[int, int]]]:
    from datafog.services.text_service import TextService

    service = TextService(engine="regex")

    def find(text: str) -> list[tuple[int, int]]:
        return [(s.start, s.end) for s in service.annotate_text_sync(text, structured=True)]

    return find


def scrubadub() -> Callable[[str], list[tuple[int, int]]]:
    import scrubadub

    scrubber = scrubadub.Scrubber()
    return lambda text: [(filth.beg, filth.end) for filth in scrubber.iter_filth(text)]


def detect_secrets() -> Callable[[str], list[tuple[int, int]]]:
    from detect_secrets.core.scan import scan_line
    from detect_secrets.settings import default_settings

    def find(text: str) -> list[tuple[int, int]]:
        found = []
        with default_settings():
            for line in text.split("\n"):
                for secret in scan_line(line):
                    value = secret.secret_value or ""
                    at = text.find(value)
                    if value and at >= 0:
                        found.append((at, at + len(value)))
        return found

    return find


def main() -> None:
    name, path = sys.argv[1], sys.argv[2]
    find = {"presidio": presidio, "datafog": datafog, "scrubadub": scrubadub, "detect-secrets": detect_secrets}[name]()
    with open(path) as file:
        texts = [json.loads(line)["text"] for line in file]
    find(texts[0])
    started = time.process_time()
    spans: list[Any] = [find(text) for text in texts]
    taken = time.process_time() - started
    print(json.dumps({"spans": spans, "messages_per_second": len(texts) / taken}))


if __name__ == "__main__":
    main()
