"""How hard each row is for a model: its loss, before anything is learned from it."""

from collections.abc import Sequence
from typing import Any

from nacre.base.errors import InputError
from nacre.base.progress import progress
from nacre.model.load import is_reward_model, load_model
from nacre.model.losses import answer_losses, text_losses
from nacre.records import Example, Weights


def row_losses(start: Weights, tokenizer: Any, max_length: int, rows: Sequence[Example]) -> list[float]:
    """Mean loss of each row in nats per token: of its (first) answer, of the whole row where that is plain text.

    The model is loaded for it and let go again, because what is about to train may have no head for words.

    Raises:
        InputError: the start is a reward model, which has none either.
    """
    if is_reward_model(start):
        raise InputError(
            "a reward model gives numbers, so it cannot say how likely a row is",
            where="train.curriculum, or replay's order",
            fix="take another curriculum than loss, and another order than surprise",
        )
    model = load_model(start)
    texts = [place for place, row in enumerate(rows) if row.kind == "text"]
    answers = [place for place, row in enumerate(rows) if row.kind != "text"]
    with progress("measuring rows", len(rows)) as advance:
        of_answers = answer_losses(model, tokenizer, [rows[place] for place in answers], max_length, advance=advance)
        of_texts = text_losses(model, tokenizer, [rows[place].prompt[0].content for place in texts], max_length)
        advance(len(texts))
    found = dict(zip([*answers, *texts], [*of_answers, *of_texts], strict=True))
    return [found[place].nll / max(found[place].tokens, 1) for place in range(len(rows))]
