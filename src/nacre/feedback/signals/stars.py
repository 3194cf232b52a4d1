"""One to five stars."""

from nacre.feedback.signals import Answer, LeftOut
from nacre.records import Feedback, Interaction

GOOD = 4


class Stars:
    """Four stars or more: the shown answer was good and is learned, if it is whole."""

    def answer(self, interaction: Interaction, said: Feedback) -> Answer | LeftOut:
        """The shown answer, or why not."""
        if said.value is None or said.value < GOOD:
            return LeftOut(f"fewer than {GOOD} stars and no correction")
        if interaction.finish != "stop":
            return LeftOut("good stars for an answer that was cut off")
        if not interaction.answer.strip():
            return LeftOut("good stars for an empty answer")
        return Answer(interaction.answer, rank=1)
