"""Exact match."""

import unicodedata

from nacre.evaluate.metrics.metric import Metric, Scored


class ExactMatch(Metric):
    """1 where the answer is the reference, character for character, else 0.

    Only surrounding white space and the Unicode form (NFC) are levelled: "World." is not "World".
    """

    definition = "share of answers equal to the reference (white space around it and Unicode form aside)"

    def measure(self, scored: Scored) -> list[float]:
        """1.0 or 0.0 per row."""
        return [
            float(plain(answer) == plain(reference))
            for answer, reference in zip(scored.answers, scored.references, strict=True)
        ]


def plain(text: str) -> str:
    """The text in Unicode form NFC without white space around it."""
    return unicodedata.normalize("NFC", text).strip()
