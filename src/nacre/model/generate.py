"""Greedy answers in batches, for scoring.

Shape suffixes: B rows of the batch, T positions so far, W of the longest prompt, V vocabulary.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from nacre.base.errors import InputError
from nacre.model.chat import IGNORED, encode, own_text, prompt_ids, shorten, stop_ids, stop_texts, too_long
from nacre.model.ensemble import elected, votes
from nacre.model.losses import Advance, Loss, answer_losses, evaluating, labelled_losses, last_answer
from nacre.model.reading import Reading, read_prompts_once
from nacre.records import Decoding, Example

_LATER_TOKENS = 1024  # positions of references after prompts that are read already; of longer ones all is read again

Step = Callable[[], None]
Said = tuple[list[int], bool]  # the tokens of an answer, and whether it ended itself


class Answer(NamedTuple):
    """What the model said, without the token that ended it.

    Attributes:
        cut_tokens: prompt tokens left out because the prompt did not fit.
        finished: whether the model ended the answer itself, before `max_new_tokens`.
        tokens: number of tokens of the answer.
    """

    text: str
    cut_tokens: int
    finished: bool
    tokens: int = 0


class Timing(NamedTuple):
    """Seconds of one request: to its end, to its first token, and for each token after the first.

    The token that ends an answer counts as one; `token_s` is None where there was only one, or where all came at once.
    """

    total_s: float
    first_token_s: float
    token_s: float | None


def answer_all(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    decoding: Decoding,
    *,
    batch_rows: int = 32,
    advance: Advance | None = None,
    step: Step | None = None,
) -> list[Answer]:
    """The greedy answer to every example's prompt, in order.

    The model's own generation settings (sampling, penalties) are left aside, so an answer depends on
    weights and prompt alone. Longest prompts go first: memory that does not suffice shows at once.

    `batch_rows` rows are generated side by side; `advance` is called with the number of rows just answered, `step`
    whenever every row of a batch has got one token more; of a vote at the end.

    Raises:
        InputError: `max_new_tokens` leaves no room for a prompt.
    """
    if votes(model):
        return _voted(model, tokenizer, examples, decoding, batch_rows, advance, step)
    whole, prompts = asked_prompts(tokenizer, examples, decoding)
    stop = _stop_of(tokenizer)
    answers: dict[int, Answer] = {}
    with evaluating(model):
        for batch, reading in _read(model, prompts, batch_rows):
            said = _greedy(reading, stop, decoding.max_new_tokens, step)
            answers |= _answers(tokenizer, batch, said, whole, prompts)
            if advance:
                advance(len(batch))
    return [answers[row] for row in range(len(prompts))]


def answers_and_losses(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    decoding: Decoding,
    *,
    batch_rows: int = 32,
    advance: Advance | None = None,
) -> tuple[list[Answer], list[Loss]]:
    """What `answer_all` and `answer_losses` give, with each prompt read once for both.

    Twice only where the reference needs more of the prompt cut off than the answer does, where references are long, and
    by models whose cache cannot be gone back in (a sliding window, a router, several adapters together). `advance` is
    called with the number of rows just done.
    """
    if votes(model):
        won = answer_all(model, tokenizer, examples, decoding, batch_rows=batch_rows, advance=advance)
        return won, answer_losses(model, tokenizer, examples, decoding.max_length)
    whole, prompts = asked_prompts(tokenizer, examples, decoding)
    rows = [encode(example, tokenizer, decoding.max_length) for example in examples]
    labelled = [(row.input_ids, last_answer(row.labels)) for row in rows]
    references = [answer_after(prompt, *row) for prompt, row in zip(prompts, labelled, strict=True)]
    stop = _stop_of(tokenizer)
    answers: dict[int, Answer] = {}
    found: dict[int, tuple[float, int]] = {}
    with evaluating(model):
        for batch, reading in _read(model, prompts, batch_rows):
            wanted = [references[row] for row in batch]
            if all(wanted) and sum(map(len, wanted)) <= _LATER_TOKENS and reading.can_go_back:
                counts = [len(tokens) for tokens in wanted]
                found |= zip(batch, zip(reading.losses(wanted), counts, strict=True), strict=True)
            else:
                found |= zip(batch, labelled_losses(model, [labelled[row] for row in batch]), strict=True)
            said = _greedy(reading, stop, decoding.max_new_tokens)
            answers |= _answers(tokenizer, batch, said, whole, prompts)
            if advance:
                advance(len(batch))
    return (
        [answers[row] for row in range(len(prompts))],
        [Loss(*found[place], row.cut) for place, row in enumerate(rows)],
    )


def _voted(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    decoding: Decoding,
    batch_rows: int,
    advance: Advance | None,
    step: Step | None,
) -> list[Answer]:
    """For each row the answer that most members give, each of whom answers alone, one after the other."""
    said = [answer_all(member, tokenizer, examples, decoding, batch_rows=batch_rows) for member in model.alone()]
    if advance:
        advance(len(examples))
    if step:
        step()
    return [answers[elected([one.text for one in answers])] for answers in zip(*said, strict=True)]


def _read(model: Any, prompts: Sequence[Sequence[int]], batch_rows: int) -> Iterator[tuple[list[int], Reading]]:
    """Batches of rows and what the model read of them; longest prompts first, so that each batch is of like length."""
    order = sorted(range(len(prompts)), key=lambda row: -len(prompts[row]))
    for start in range(0, len(order), batch_rows):
        batch = order[start : start + batch_rows]
        yield batch, read_prompts_once(model, [prompts[row] for row in batch])


def answer_after(prompt: Sequence[int], input_ids: list[int], labels: list[int]) -> list[int]:
    """The tokens of the last answer, where exactly `prompt` stands before it; else nothing."""
    start = next((place for place, label in enumerate(labels) if label != IGNORED), 0)
    return input_ids[start:] if start and input_ids[:start] == list(prompt) else []


def _answers(
    tokenizer: Any, batch: Sequence[int], said: Sequence[Said], whole: Sequence[list[int]], asked: Sequence[list[int]]
) -> dict[int, Answer]:
    """The texts of a batch's answers, by row."""
    answers = {}
    for row, (tokens, finished) in zip(batch, said, strict=True):
        text = own_text(tokenizer.decode(tokens, skip_special_tokens=True), tokenizer)
        answers[row] = Answer(text, len(whole[row]) - len(asked[row]), finished, len(tokens))
    return answers


def asked_prompts(
    tokenizer: Any, examples: Sequence[Example], decoding: Decoding
) -> tuple[list[list[int]], list[list[int]]]:
    """The tokens of every prompt, and those of them that leave room for an answer.

    Raises:
        InputError: `max_new_tokens` leaves no room for a prompt, or for one with pictures.
    """
    room = decoding.max_length - decoding.max_new_tokens
    if room < 1:
        raise InputError(
            f"max_new_tokens {decoding.max_new_tokens} leaves no room for a prompt in {decoding.max_length} tokens",
            where="evaluate, max_new_tokens",
            fix="lower max_new_tokens or raise max_length",
        )
    whole = [
        prompt_ids(row.prompt, tokenizer, system=row.system, tools=row.tools, images=row.images) for row in examples
    ]
    for row, prompt in zip(examples, whole, strict=True):
        if row.images and len(prompt) > room:
            raise too_long(len(prompt) + decoding.max_new_tokens, decoding.max_length)
    return whole, [shorten(prompt, room) for prompt in whole]


def time_answer(model: Any, tokenizer: Any, example: Example, decoding: Decoding) -> Timing:
    """Answer one row alone and time it, the work on its prompt included. The first call of a model is slower."""
    marks: list[float] = []
    started = time.perf_counter()
    answer_all(model, tokenizer, [example], decoding, step=lambda: marks.append(time.perf_counter()))
    total_s = time.perf_counter() - started
    later = (marks[-1] - marks[0]) / (len(marks) - 1) if len(marks) > 1 else None
    return Timing(total_s, marks[0] - started, later)


def time_tokens(model: Any, tokenizer: Any, example: Example, decoding: Decoding) -> Timing:
    """Time exactly `max_new_tokens` tokens after a row's prompt, where answers would end too: each model works as much.

    Of a vote, all members write as many side by side, and nothing is there before the end.

    Raises:
        InputError: `max_new_tokens` leaves no room for a prompt.
    """
    _, prompts = asked_prompts(tokenizer, [example], decoding)
    marks: list[float] = []
    started = time.perf_counter()
    with evaluating(model):
        for _, reading in _read(model, prompts, 1):
            endless = _Stop(set(), (), tokenizer)
            _greedy(reading, endless, decoding.max_new_tokens, step=lambda: marks.append(time.perf_counter()))
    later = (marks[-1] - marks[0]) / (len(marks) - 1) if len(marks) > 1 else None
    total_s = time.perf_counter() - started
    return Timing(total_s, total_s if votes(model) else marks[0] - started, later)


class _Stop(NamedTuple):
    """What ends an answer: one of these tokens, or one of these texts in what was said."""

    ids: set[int]
    texts: tuple[str, ...]
    tokenizer: Any

    def add(self, said: list[int], token: int) -> bool:
        """Put `token` after what was said, unless it is one that ends; whether the answer goes on."""
        if token in self.ids:
            return False
        said.append(token)
        if not self.texts:
            return True
        reach = max(len(text.encode()) for text in self.texts)  # a token is a byte at least
        tail = self.tokenizer.decode(said[-reach:], skip_special_tokens=True)
        return not any(text in tail for text in self.texts)


def _stop_of(tokenizer: Any) -> _Stop:
    return _Stop(stop_ids(tokenizer), stop_texts(tokenizer), tokenizer)


def _greedy(reading: Reading, stop: _Stop, max_new_tokens: int, step: Step | None = None) -> list[Said]:
    """New tokens of each row, and whether the row ended itself. Rows that have ended leave the batch."""
    mask_BT, cache = reading.mask_BW, reading.cache
    next_B, position_ids_B1 = reading.last_BV.argmax(-1), reading.next_B[:, None]
    said: list[list[int]] = [[] for _ in mask_BT]
    alive = list(range(len(said)))
    for count in range(1, max_new_tokens + 1):
        going = [
            place
            for place, (row, token) in enumerate(zip(alive, next_B.tolist(), strict=True))
            if stop.add(said[row], token)
        ]
        if step:  # after the tokens came back from the device
            step()
        if len(going) < len(alive):
            alive = [alive[place] for place in going]
            if not alive:
                break
            going_B = torch.tensor(going, device=mask_BT.device)
            next_B, mask_BT, position_ids_B1 = next_B[going_B], mask_BT[going_B], position_ids_B1[going_B]
            cache.reorder_cache(going_B)
        if count == max_new_tokens:
            break
        mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(alive), 1)], dim=1)
        output = reading.model(
            input_ids=next_B[:, None],
            attention_mask=mask_BT,
            position_ids=position_ids_B1,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        next_B, position_ids_B1 = output.logits[:, -1].argmax(-1), position_ids_B1 + 1
    return [(tokens, row not in alive) for row, tokens in enumerate(said)]
