"""Opinions on answers: a judge's or people's. Whoever asks them hands their verdicts over; nothing is measured here."""

from nacre.evaluate.metrics.metric import Metric, Scored


class Judge(Metric):
    """What the language model of `evaluate.judge` gave each answer.

    Rows whose verdict could not be read are not in the report; they are counted in its notes.
    """

    definition = "mean of the judge's score per answer, 0 to 10, divided by 10; unreadable verdicts are left out"
    reads = "verdicts"

    def measure(self, scored: Scored) -> list[float]:
        """The verdicts."""
        return list(scored.verdicts)


class JudgePairwise(Judge):
    """Which of two versions' answers the judge prefers, asked in both orders."""

    definition = (
        "mean over rows of 1 where the judge prefers this version's answer in both orders, 0 where the other's, "
        "else 0.5"
    )


class Human(Judge):
    """What people said in a review (`nacre review`), rows nobody looked at left out."""

    definition = "mean over reviewed rows of what people gave: 1 better, 0.5 equal, 0 worse; or 1 to 5 stars as 0 to 1"
