"""What a message says, as the model's chat template wants it where there may be pictures in it."""

from functools import lru_cache
from typing import Any

from jinja2.exceptions import TemplateError

PLACE = "<image>"  # where a picture stands in a text, in rows of every format


def contents(text: str, tokenizer: Any) -> Any:
    """A message's content as the model's chat template wants it: its pictures marked in the model's own words."""
    reader = getattr(tokenizer, "pictures", None)
    if reader is None or (PLACE not in text and not wants_parts(tokenizer, str(tokenizer.chat_template))):
        return text
    if not wants_parts(tokenizer, str(tokenizer.chat_template)):
        return text.replace(PLACE, reader.token)
    parts: list[dict[str, str]] = []
    for place, said in enumerate(text.split(PLACE)):
        parts += [{"type": "image"}] if place else []
        parts += [{"type": "text", "text": said}] if said else []
    return parts


@lru_cache(maxsize=16)
def wants_parts(tokenizer: Any, template: str) -> bool:
    """Whether a chat template reads a message as a list of parts and would leave out one that is a text."""
    chat = [{"role": "user", "content": "nacre"}]
    try:
        return "nacre" not in str(tokenizer.apply_chat_template(chat, tokenize=False, chat_template=template))
    except (TemplateError, TypeError):
        return True
