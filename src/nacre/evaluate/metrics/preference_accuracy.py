"""Preference accuracy: whether the better answer of a pair is preferred."""

from nacre.evaluate.metrics.metric import Metric, Scored


class PreferenceAccuracy(Metric):
    """1 where the model puts the chosen answer above the rejected one, else 0.

    A model that answers is asked for each answer's mean log-probability per token, so that neither answer wins by
    its length; a reward model for its number. No reference version is asked, so the score is one of the version alone.
    An exact tie is 0: who cannot tell has not shown a preference.
    """

    definition = "share of pairs whose chosen answer has the higher log-probability per token, or the higher reward"
    reads = "pairs"

    def measure(self, scored: Scored) -> list[float]:
        """1.0 or 0.0 per row."""
        return [float(chosen > rejected) for chosen, rejected in scored.pairs]
