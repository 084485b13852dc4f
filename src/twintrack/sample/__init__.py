"""A shop's events, to try things on. Its notice stands in README.md beside the file."""

from importlib.resources import files
from pathlib import Path

ECOM = Path(str(files("twintrack.sample") / "ecom.csv.gz"))
