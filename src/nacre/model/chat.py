"""From messages to tokens: one rendering for training, evaluation and serving.

Models bring their own chat template. One that has none gets `DEFAULT_TEMPLATE`. It is saved with every version,
so other programs render the same text. Only answers end with the end-of-sequence token: a base model has learned
that this token parts unrelated texts, and one after the question would cut the answer off from it.

A template that was chosen by name (`nacre.model.templates`) says itself where an answer begins and ends; that of
any other model is tried out (`_shape_of`).
"""

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2.exceptions import TemplateError

from nacre.base.errors import InputError
from nacre.model.content import contents
from nacre.model.templates import DEFAULT_TEMPLATE, NO_THOUGHT, is_token, known
from nacre.records import ChatTurn, Example, Message

IGNORED = -100  # label of a position that is not trained on

_ROLES = {"user": "user", "assistant": "assistant", "function": "assistant", "observation": "tool"}
_ROLES |= {"system": "system", "developer": "system"}  # of a `ChatTurn`, behind the opening

Said = Message | ChatTurn


@dataclass(frozen=True)
class Encoded:
    """One row for the trainer: equally long lists; `cut` counts the tokens that did not fit."""

    input_ids: list[int]
    labels: list[int]
    cut: int = 0


def ensure_template(tokenizer: Any) -> bool:
    """Give a tokenizer without a chat template the default one; returns whether that was needed."""
    if tokenizer.chat_template:
        return False
    tokenizer.chat_template = DEFAULT_TEMPLATE
    return True


def render(messages: tuple[Said, ...], tokenizer: Any, *, system: str = "", tools: str = "") -> str:
    """The prompt's text, ready for the answer to be appended.

    Raises:
        InputError: the template refuses this order of roles, or `tools` is not JSON.
    """
    return _render(messages, tokenizer, system, tools, answer_next=True)


def prompt_ids(
    messages: tuple[Said, ...],
    tokenizer: Any,
    *,
    system: str = "",
    tools: str = "",
    images: Sequence[str] | None = None,
) -> list[int]:
    """Token ids of `render`'s text, put together from the same pieces as in training; `images` stand at their places.

    Raises:
        InputError: what `render` refuses, or pictures that the model or its template has no place for.
    """
    pieces = _pieces(messages, tokenizer, system, tools)
    text = "".join(piece for piece, _ in pieces)
    prompt = render(messages, tokenizer, system=system, tools=tools)
    pieces = [*pieces, (prompt[len(text) :], False)] if prompt.startswith(text) else [(prompt, False)]
    return [token for piece in _laid_out([piece for piece, _ in pieces], tokenizer, images) for token in piece]


def check_system_places(messages: tuple[Said, ...], tokenizer: Any, *, system: str = "") -> None:
    """Refuse system messages behind the opening that the template would leave out or put somewhere else.

    Tried out with words in place of the messages, because many templates do either without a word. One at the end must
    be followed by what asks for the answer.

    Raises:
        InputError: the template has no place for one of them, or refuses this order of roles.
    """
    words = [f"nacre{place}." for place in range(len(messages))]
    turns = tuple(ChatTurn(role=one.role, content=word) for one, word in zip(messages, words, strict=True))
    text = _render(turns, tokenizer, system, "", answer_next=True)
    places = [text.find(word) for word in words]
    placed = min(places) >= 0 and places == sorted(places)
    if placed and _ROLES[messages[-1].role] == "system":
        placed = text != _render(turns, tokenizer, system, "", answer_next=False)
    if not placed:
        raise InputError(
            "the model's chat template has no place for a system message there",
            where="messages",
            fix="put it before the first message of the user",
        )


def stop_ids(tokenizer: Any) -> set[int]:
    """Ids that end an answer: the tokenizer's end of sequence, and what its template puts after an answer."""
    end = {tokenizer.eos_token_id} if tokenizer.eos_token_id is not None else set()
    named = known(str(tokenizer.chat_template))
    if named is not None:
        return end | {tokenizer.convert_tokens_to_ids(text) for text in named.stop if is_token(tokenizer, text)}
    last = _tokens(tokenizer, _shape(tokenizer).ending)[-1:]
    return end | {token for token in last if tokenizer.convert_ids_to_tokens(token) in _special_tokens(tokenizer)}


def stop_texts(tokenizer: Any) -> tuple[str, ...]:
    """Texts that end an answer: those of a named template that the vocabulary does not have as one token."""
    named = known(str(tokenizer.chat_template))
    return tuple(text for text in named.stop if not is_token(tokenizer, text)) if named is not None else ()


def empty_thought(tokenizer: Any) -> str:
    """The text of an empty thought, where answers without a thought are trained to begin with one; else nothing."""
    return _shape(tokenizer).thought


def own_text(said: str, tokenizer: Any) -> str:
    """What was said without the empty thought before it, up to the first text that ends an answer."""
    for text in stop_texts(tokenizer):
        said = said.partition(text)[0]
    return said.removeprefix(empty_thought(tokenizer))


def shorten(prompt: list[int], room: int) -> list[int]:
    """Fit a prompt into `room` tokens: its end (the marker that asks for the answer) and its beginning stay.

    Training, evaluation and serving cut the same way, so a long row is the same text everywhere.
    """
    if len(prompt) <= room:
        return prompt
    tail = min(16, room // 2)
    return prompt[: room - tail] + prompt[len(prompt) - tail :]


def encode(example: Example, tokenizer: Any, max_length: int) -> Encoded:
    """Tokens and labels of a supervised example: every assistant turn is trained, nothing else.

    Where a template rewrites earlier turns (reasoning models drop old thoughts, some write no end after an
    answer), only the last answer is trained, because the earlier ones do not stand in the text the model sees.
    A row that is too long is shortened as `shorten` says; its answer is cut only if it does not fit alone.

    Raises:
        InputError: the template refuses this order of roles, or `tools` is not JSON.
    """
    turns = (*example.prompt, *example.answers[:1])
    pieces = _pieces(turns, tokenizer, example.system, example.tools)
    if pieces and pieces[-1][1]:
        pieces[-1] = (pieces[-1][0] + _shape(tokenizer).last, True)
    return _join(pieces, tokenizer, max_length, example.images)


def answer_text(example: Example, tokenizer: Any) -> str:
    """The text of the (first) answer as it stands in a training row, with what its template puts before and after."""
    pieces = _pieces((*example.prompt, *example.answers[:1]), tokenizer, example.system, example.tools)
    return pieces[-1][0] + _shape(tokenizer).last


def encode_text(texts: list[str], tokenizer: Any, max_length: int) -> list[Encoded]:
    """Plain texts, each ended by the end-of-sequence token, laid end to end and cut into equal blocks."""
    end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    stream = [token for text in texts for token in (*_tokens(tokenizer, text), *end)]
    blocks = [stream[start : start + max_length] for start in range(0, len(stream), max_length)]
    return [Encoded(block, list(block)) for block in blocks if len(block) > 1]


def _pieces(turns: tuple[Said, ...], tokenizer: Any, system: str, tools: str) -> list[tuple[str, bool]]:
    """The text up to the last answer in `turns`, cut where an answer begins or ends; whether a piece is an answer."""
    shape = _shape(tokenizer)
    pieces: list[tuple[str, bool]] = []
    text = ""
    for place, message in enumerate(turns):
        if message.role not in ("assistant", "function") or place == 0:
            continue
        prompt = _render(turns[:place], tokenizer, system, tools, answer_next=True)
        if not prompt.startswith(text):
            pieces, text = [], ""
        said = message.content.strip() if shape.strips else message.content
        thought = shape.thought if "<think>" not in said and "</think>" not in said else ""
        answer = thought + shape.lead + said + shape.ending
        pieces += [(prompt[len(text) :], False), (answer, True)]
        text = prompt + answer
    return pieces


def _join(pieces: list[tuple[str, bool]], tokenizer: Any, max_length: int, images: Sequence[str] | None) -> Encoded:
    """Tokenise each piece on its own, so that generation sees the very prefix that training saw."""
    tokens = _laid_out([text for text, _ in pieces], tokenizer, images)
    ids = [token for piece in tokens for token in piece]
    trained = [answer for piece, (_, answer) in zip(tokens, pieces, strict=True) for _ in piece]
    answer = len(tokens[-1]) if tokens else 0
    room = max(1, max_length - answer)  # one prompt token at least, so that the answer has something to follow
    prompt = len(ids) - answer
    if images and len(ids) > max_length:
        raise too_long(len(ids), max_length)
    kept = (shorten(list(range(prompt)), room) + list(range(prompt, len(ids))))[:max_length]
    labels = [ids[place] if trained[place] else IGNORED for place in kept]
    return Encoded([ids[place] for place in kept], labels, len(ids) - len(kept))


def _render(messages: tuple[Said, ...], tokenizer: Any, system: str, tools: str, *, answer_next: bool) -> str:
    chat = [{"role": _ROLES[message.role], "content": contents(message.content, tokenizer)} for message in messages]
    if system:
        chat.insert(0, {"role": "system", "content": contents(system, tokenizer)})
    try:
        declared = json.loads(tools) if tools else None
    except ValueError as error:
        raise InputError(f"the tools are not JSON: {error}", where=tools[:80], fix="correct the tools column") from None
    try:
        return str(
            tokenizer.apply_chat_template(chat, tools=declared, tokenize=False, add_generation_prompt=answer_next)
        )
    except TemplateError as error:
        roles = " → ".join(message["role"] for message in chat)
        raise InputError(
            f"the model's chat template refuses this conversation: {error}",
            where=f"roles {roles}",
            fix="reorder the messages, or give the tokenizer another chat_template",
        ) from None


@dataclass(frozen=True)
class _Shape:
    """What a template does to an answer.

    Attributes:
        lead: white space that it writes between the marker that asks for an answer and the answer.
        ending: what it writes after an answer, up to and including the token that ends it.
        strips: whether it takes the answer's own white space away.
        thought: an empty thought, if it writes one before every answer that has none.
        last: what ends the last answer of a row alone, beside `ending`.
    """

    lead: str
    ending: str
    strips: bool = False
    thought: str = ""
    last: str = ""


_PROBE = "nacre"  # an answer that no template writes by itself


def _shape(tokenizer: Any) -> _Shape:
    template, eos = str(tokenizer.chat_template), tokenizer.eos_token or ""
    named = known(template)
    if named is None:
        return _shape_of(tokenizer, template, eos)
    thought, last = NO_THOUGHT if named.thinks else "", eos if named.bare else ""
    return _Shape(named.lead, named.ending(eos), thought=thought, last=last)


@lru_cache(maxsize=16)
def _shape_of(tokenizer: Any, template: str, eos: str) -> _Shape:
    """Found once for each tokenizer, by answers that can be found again in what the template makes of them."""

    def around(answer: str) -> tuple[str, str]:
        chat = (Message(role="user", content="?"), Message(role="assistant", content=answer))
        before, found, after = _render(chat, tokenizer, "", "", answer_next=False).rpartition(_PROBE)
        return (before, after) if found else ("", "")

    before, after = around(_PROBE)
    strips = around(f" {_PROBE} ") == (before, after)
    prompt = _render((Message(role="user", content="?"),), tokenizer, "", "", answer_next=True)
    lead = before.removeprefix(prompt) if before.startswith(prompt) else ""
    ends = [token for token in _special_tokens(tokenizer) if after.lstrip().startswith(token)]
    ending = after[: after.index(end := max(ends, key=len)) + len(end)] if ends else eos
    return _Shape(lead if lead.isspace() else "", ending, strips)


def _special_tokens(tokenizer: Any) -> set[str]:
    """Also those that are no named part of the tokenizer, such as Llama 3's end of turn."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return {token for token in (*tokenizer.all_special_tokens, *added) if token}


def _tokens(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def too_long(tokens: int, max_length: int) -> InputError:
    """The error for a row with pictures that would have to be cut: nobody knows what half a picture means."""
    return InputError(
        f"a row with pictures has {tokens} tokens, and {max_length} fit",
        where="max_length",
        fix="raise train.max_length and evaluate.max_length, or have the processor make fewer tokens of a picture",
    )


def _laid_out(texts: Sequence[str], tokenizer: Any, images: Sequence[str] | None) -> list[list[int]]:
    """Tokens of each text, with the pictures at their places.

    Raises:
        InputError: the model reads no pictures, or its template leaves them out.
    """
    if not images:
        return [_tokens(tokenizer, text) for text in texts]
    reader = getattr(tokenizer, "pictures", None)
    if reader is None:
        fix = "name a model that reads pictures (image-text-to-text, of the LLaVA kind), or leave out the column images"
        raise InputError("the row has pictures, and the model reads texts only", where="images", fix=fix)
    waiting = deque(images)
    found = [reader.lay_out(text, waiting, tokenizer) for text in texts]
    if waiting:
        what = f"{len(waiting)} of {len(images)} pictures of a row have no place in what the chat template makes of it"
        raise InputError(what, where="chat template", fix="give the tokenizer a template that writes them")
    return found
