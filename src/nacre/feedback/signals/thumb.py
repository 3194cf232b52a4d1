"""A thumb up or down."""

from nacre.feedback.signals import Answer, LeftOut
from nacre.records import Feedback, Interaction


class Thumb:
    """Kept, never learned from alone.

    Models trained on raw thumbs learn to please the few who can be gamed (Williams et al. 2024, arXiv 2411.02306).
    """

    def answer(self, interaction: Interaction, said: Feedback) -> Answer | LeftOut:
        """Always left out."""
        return LeftOut("a thumb alone teaches no answer")
