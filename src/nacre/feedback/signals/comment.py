"""Free text about an answer."""

from nacre.feedback.signals import Answer, LeftOut
from nacre.records import Feedback, Interaction


class Comment:
    """Kept for people to read; it says what was wrong, not what would be right."""

    def answer(self, interaction: Interaction, said: Feedback) -> Answer | LeftOut:
        """Always left out."""
        return LeftOut("a comment names no answer")
