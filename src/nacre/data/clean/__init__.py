"""Cleaners: one file each, and one line in this table. The order of the table is the order of the chain.

Why this order: HTML first, because its entities spell any character; then what is wrong with characters, so that
later steps see plain ones; then what stands in the words; records are judged last, as they would be trained on.
Third parties join through the entry-point group ``nacre.cleaner``; their steps come after ours, by name.
"""

from nacre.base.plugins import Table

ORDER = {
    "html": "nacre.data.clean.html:Html",
    "control": "nacre.data.clean.control:Control",
    "unicode": "nacre.data.clean.unicode:Unicode",
    "tokens": "nacre.data.clean.tokens:Tokens",
    "dates": "nacre.data.clean.dates:Dates",
    "glossary": "nacre.data.clean.glossary:Glossary",
    "secrets": "nacre.data.clean.secrets:Secrets",
    "pii": "nacre.data.clean.pii:Pii",
    "dialogue": "nacre.data.clean.dialogue:Dialogue",
    "repetition": "nacre.data.clean.repetition:Repetition",
    "leaks": "nacre.data.clean.leaks:Leaks",
    "duplicates": "nacre.data.clean.duplicates:Duplicates",
    "near": "nacre.data.clean.near:Near",
}
CLEANERS = Table("cleaner", ORDER)


def in_order(names: set[str]) -> list[str]:
    """These steps in the order of the chain."""
    places = {name: place for place, name in enumerate(ORDER)}
    return sorted(names, key=lambda name: (places.get(name, len(places)), name))
