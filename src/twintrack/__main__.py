"""`python -m twintrack`."""

from twintrack.cli import main

main()
