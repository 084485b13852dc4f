"""Personal data and secrets in strings: found by rules that are data, masked by actions that are chosen.

Reading order: rules.toml, rules.py, fold.py, engine.py; then the judges of candidates: numbers, address, network,
phone, secret, credential, value.
`live.py` follows the rules file of a running server.
"""

from twintrack.pii.engine import Finding, Masked, Masker, pseudonym
from twintrack.pii.live import LiveMaskers
from twintrack.pii.maskers import Maskers, default
from twintrack.pii.rules import Action, built_in_names

__all__ = [
    "Action",
    "Finding",
    "LiveMaskers",
    "Masked",
    "Masker",
    "Maskers",
    "built_in_names",
    "default",
    "pseudonym",
]
