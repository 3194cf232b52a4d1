"""chrF."""

from sacrebleu.metrics import CHRF

from nacre.evaluate.metrics.metric import Metric, Scored


class ChrF(Metric):
    """F2 of character n-grams up to 6 (Popović 2015, WMT15, chrF2) by sacrebleu, divided by 100.

    It needs no words, so Chinese and English are measured alike; white space does not count.
    """

    definition = "sacrebleu's chrF2 / 100: corpus chrF as the total, sentence chrF per example"

    def measure(self, scored: Scored) -> list[float]:
        """Sentence chrF / 100 per row; 1 where both texts are empty."""
        chrf = CHRF()
        return [
            min(1.0, chrf.sentence_score(answer, [reference]).score / 100) if answer or reference else 1.0
            for answer, reference in zip(scored.answers, scored.references, strict=True)
        ]

    def total(self, scored: Scored) -> float:
        """Corpus chrF / 100."""
        return min(1.0, float(CHRF().corpus_score(list(scored.answers), [list(scored.references)]).score) / 100)
