"""From a request to tokens, for engines that hold the tokenizer themselves."""

from collections.abc import Sequence
from typing import Any

from nacre.base.errors import InputError
from nacre.base.plugins import Table
from nacre.model.chat import check_system_places, prompt_ids
from nacre.serve.engines import ChatPrompt, ContextTooLong, Prompt, Sampling

FORMATS = Table("answer format", {"json": "nacre.serve.engines.embedded.constrain:Constrainer"})


def constrainer(tokenizer: Any, vocabulary: int, stop_ids: Any) -> Any:
    """What holds answers to JSON, for one tokenizer.

    Raises:
        InputError: the library is not installed.
    """
    try:
        made = FORMATS.load("json")
    except ImportError:
        raise InputError(
            "answers held to JSON need xgrammar",
            where="response_format",
            fix="pip install 'nacre[json]' on the server",
        ) from None
    return made(tokenizer, vocabulary, stop_ids)


def read_prompt(tokenizer: Any, vocabulary: int, prompt: Prompt, echo: bool) -> tuple[list[int], str | None]:
    """The prompt's tokens, and its text where it is to be given back.

    Raises:
        InputError: the template refuses the conversation; the prompt is empty or has ids that are no tokens.
    """
    if isinstance(prompt, ChatPrompt):
        if any(message.role in ("system", "developer") for message in prompt.messages):
            check_system_places(prompt.messages, tokenizer, system=prompt.system)
        ids = prompt_ids(prompt.messages, tokenizer, system=prompt.system)
        return ids, tokenizer.decode(ids) if echo else None
    if isinstance(prompt.text, str):
        ids = list(tokenizer(prompt.text)["input_ids"])
        text = prompt.text
    else:
        ids = list(prompt.text)
        check_ids(ids, vocabulary, "prompt")
        text = tokenizer.decode(ids) if echo else ""
    if not ids:
        raise InputError("the prompt is empty", where="prompt", fix="give it at least one token")
    return ids, text if echo else None


def check_ids(ids: Sequence[int], vocabulary: int, where: str) -> None:
    """Refuse what is no token id.

    Raises:
        InputError: one of them is none.
    """
    wrong = next((token for token in ids if not 0 <= token < vocabulary), None)
    if wrong is not None:
        raise InputError(f"{wrong} is no token id", where=where, fix=f"0 to {vocabulary - 1}")


def check_bias(sampling: Sampling, vocabulary: int) -> None:
    """Refuse a bias on what is no token id. Raises as `check_ids` does."""
    check_ids(list(sampling.logit_bias), vocabulary, "logit_bias")


def beyond_context(most: int, prompt: int, asked: int) -> ContextTooLong:
    """The refusal of a prompt of so many tokens, with an answer of `asked`, by a model whose context holds `most`."""
    if not asked:
        return ContextTooLong(f"the model's context holds {most} tokens; the text takes {prompt}", fix="shorten it")
    return ContextTooLong(
        f"the model's context holds {most} tokens; the prompt takes {prompt} and the answer asks for {asked}",
        fix="shorten the prompt or ask for a shorter answer",
    )
