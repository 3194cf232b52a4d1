"""One answer out of several members' whole ones: each writes its own beside the others, and most equal answers win."""

import asyncio
from collections.abc import Sequence

from nacre.base.errors import InputError, NacreError
from nacre.model.ensemble import elected
from nacre.serve.engines import Delta, Finish, Sampling, Target
from nacre.serve.engines.embedded.rows import Answer


class Vote:
    """`nacre.serve.engines.Generation`: nothing is said before the last member has ended, then the whole answer.

    What is counted is the winning answer's tokens; the others' are the price.

    Args:
        answers: the members', in the order that decides ties.
    """

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers = tuple(answers)
        self._left: list[Delta | Finish] | None = None

    @property
    def target(self) -> Target:
        """The version that answers."""
        return self._answers[0].target

    @property
    def prompt_tokens(self) -> int:
        """Length of the rendered prompt, which every member reads."""
        return self._answers[0].prompt_tokens

    async def next(self) -> Delta | Finish:
        """See `nacre.serve.engines.Generation`."""
        if self._left is None:
            self._left = await self._counted()
        return self._left.pop(0)

    def cancel(self) -> None:
        """See `nacre.serve.engines.Generation`."""
        for answer in self._answers:
            answer.cancel()

    async def _counted(self) -> list[Delta | Finish]:
        """Wait for every member; what is left to be given then."""
        try:
            found = await asyncio.gather(*map(_whole, self._answers))
        except NacreError:
            self.cancel()
            raise
        aborted = next((finish for _, finish in found if finish.reason == "aborted"), None)
        if aborted is not None:
            return [aborted]
        text, finish = found[elected([said for said, _ in found])]
        return [Delta(text, whole=True), finish] if text else [finish]


async def _whole(answer: Answer) -> tuple[str, Finish]:
    said: list[str] = []
    while isinstance(piece := await answer.next(), Delta):
        said.append(piece.text)
    return "".join(said), piece


def check_votable(sampling: Sampling) -> None:
    """Refuse what a vote has not.

    Raises:
        InputError: log probabilities are asked for.
    """
    if sampling.logprobs is not None:
        what = "a vote of whole answers has no log probabilities"
        raise InputError(what, where="logprobs", fix="ask without them, or a version that was combined by mean")
