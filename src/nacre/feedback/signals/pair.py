"""Which of two answers is the better one."""

from nacre.feedback.signals import Answer, LeftOut
from nacre.records import Feedback, Interaction


class Pair:
    """It becomes a preference pair; that one answer is better than another does not make it right."""

    def answer(self, interaction: Interaction, said: Feedback) -> Answer | LeftOut:
        """Always left out."""
        return LeftOut("a comparison names no right answer")
