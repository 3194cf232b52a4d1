"""Answers chosen among a few options by their likelihood: each prompt is read once, whatever the number of options."""

from collections.abc import Sequence
from typing import Any

from nacre.model.chat import IGNORED, encode
from nacre.model.ensemble import elected, votes
from nacre.model.generate import Answer, answer_after, asked_prompts
from nacre.model.losses import Advance, Loss, answer_losses, evaluating, labelled_losses, last_answer
from nacre.model.reading import read_prompts_once
from nacre.records import Decoding, Example, Message

_MOST_TEXTS = 128  # options after the prompts of a batch
_MOST_POSITIONS = 1024  # of these options, whose logits [positions, vocabulary] are in memory at a time


def choose_all(
    model: Any, tokenizer: Any, examples: Sequence[Example], decoding: Decoding, *, advance: Advance | None = None
) -> tuple[list[Answer], list[Loss]]:
    """For each row the likeliest of `decoding.options`, and the loss of its reference, which is one of them.

    An option's likelihood is that of its tokens and of those that end an answer, given the prompt: it is the answer
    that greedy decoding would look for if it could see to the end. Of equally likely ones it is the first. Of a
    vote, each member chooses one, and most equal choices win.

    `advance` is called with the number of rows just done.

    Raises:
        InputError: `max_new_tokens` leaves no room for a prompt.
    """
    if not examples:
        return [], []
    if votes(model):
        said = [choose_all(member, tokenizer, examples, decoding)[0] for member in model.alone()]
        if advance:
            advance(len(examples))
        won = [answers[elected([one.text for one in answers])] for answers in zip(*said, strict=True)]
        return won, answer_losses(model, tokenizer, examples, decoding.max_length)
    options = decoding.options
    whole, prompts = asked_prompts(tokenizer, examples, decoding)
    tails = [_tail(encode(_with(examples[0], text), tokenizer, decoding.max_length).labels) for text in options]
    rows = [encode(example, tokenizer, decoding.max_length) for example in examples]
    size = max(1, min(_MOST_TEXTS // len(options), _MOST_POSITIONS // sum(map(len, tails))))
    order = sorted(range(len(prompts)), key=lambda row: -len(prompts[row]))
    found: dict[int, list[float]] = {}
    with evaluating(model):
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            alike = all(
                answer_after(prompts[row], rows[row].input_ids, last_answer(rows[row].labels))
                == tails[options.index(examples[row].answer)]
                for row in batch
            )
            losses = _together(model, [prompts[row] for row in batch], tails) if alike else None
            if losses is None:
                losses = [_apart(model, tokenizer, examples[row], decoding) for row in batch]
            found |= zip(batch, losses, strict=True)
            if advance:
                advance(len(batch))
    chosen = [min(range(len(options)), key=found[row].__getitem__) for row in range(len(rows))]
    answers = [
        Answer(options[best], len(whole[row]) - len(prompts[row]), finished=True, tokens=len(tails[best]))
        for row, best in enumerate(chosen)
    ]
    right = [options.index(example.answer) for example in examples]
    return answers, [Loss(found[row][place], len(tails[place]), rows[row].cut) for row, place in enumerate(right)]


def _together(model: Any, prompts: Sequence[list[int]], tails: Sequence[list[int]]) -> list[list[float]] | None:
    """Losses of every option after each prompt; None where the model cannot read them after one reading of it."""
    reading = read_prompts_once(model, prompts)
    if not reading.can_go_back:
        return None
    found = reading.losses([tail for _ in prompts for tail in tails], repeats=len(tails))
    return [found[start : start + len(tails)] for start in range(0, len(found), len(tails))]


def _apart(model: Any, tokenizer: Any, example: Example, decoding: Decoding) -> list[float]:
    """Losses of every option of a row, each read with the prompt."""
    rows = [encode(_with(example, text), tokenizer, decoding.max_length) for text in decoding.options]
    return [loss for loss, _ in labelled_losses(model, [(row.input_ids, last_answer(row.labels)) for row in rows])]


def _with(example: Example, answer: str) -> Example:
    return example.changed(answers=(Message(role="assistant", content=answer),))


def _tail(labels: list[int]) -> list[int]:
    """The tokens of the last answer."""
    return [label for label in last_answer(labels) if label != IGNORED]
