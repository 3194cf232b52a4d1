"""A judge's score of an answer."""

from nacre.feedback.signals import Answer, LeftOut
from nacre.records import Feedback, Interaction


class Score:
    """It compares versions while one is released; a model's praise of a model's answer is nothing to learn from."""

    def answer(self, interaction: Interaction, said: Feedback) -> Answer | LeftOut:
        """Always left out."""
        return LeftOut("a judge's score is not learned from")
