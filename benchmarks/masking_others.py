"""Runs one other package over the labelled set, in its own environment; prints its spans and speed as JSON."""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def presidio() -> Callable[[str], list[tuple[int, int]]]:
    """Its patterns and checksums with an empty language model: models are not on the package index. Without names of
    people and places it finds less of what is not asked for here, and touches fewer clean lines."""
    import spacy
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    model = tempfile.mkdtemp()
    spacy.blank("en").to_disk(model)
    given = {"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": model}]}
    engine = AnalyzerEngine(nlp_engine=NlpEngineProvider(nlp_configuration=given).create_engine())
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
    """Its scan of files, since `scan_line` leaves its entropy limits and filters out. The file is part of its time."""
    from detect_secrets import SecretsCollection
    from detect_secrets.settings import default_settings

    path = Path(tempfile.mkdtemp()) / "message.txt"

    def find(text: str) -> list[tuple[int, int]]:
        path.write_text(text)
        secrets = SecretsCollection()
        with default_settings():
            secrets.scan_file(str(path))
        values = [secret.secret_value or "" for _, secret in secrets]
        return [(text.find(value), text.find(value) + len(value)) for value in values if value and value in text]

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
