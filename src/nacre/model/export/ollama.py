"""Ollama's form: a GGUF file, and the Modelfile that `ollama create` reads.

Ollama renders conversations with Go's templates, not with the model's own Jinja template. The Go template written here
is found by trying the model's out on words in place of messages, and is only written where it renders the same text.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nacre.base.errors import InputError
from nacre.base.files import atomic_write
from nacre.model.chat import render, stop_ids, stop_texts
from nacre.model.export import Reader, Source
from nacre.model.export.gguf import FILE, Gguf
from nacre.model.export.gguf_tokens import starts_with_bos
from nacre.model.load import load_tokenizer, positions
from nacre.records import Message

MODELFILE = "Modelfile"
_NAMES = {"repetition_penalty": "repeat_penalty", "max_tokens": "num_predict"}  # ours, Ollama's
_QUESTION, _ANSWER, _LATER, _SYSTEM = "nacreone", "nacretwo", "nacrethree", "nacrefour"


class Ollama:
    """`model.gguf` and `Modelfile`: `ollama create NAME -f Modelfile`."""

    precisions = ("q8_0", "float16", "bfloat16", "float32")

    def write(self, source: Source, folder: Path, precision: str) -> list[str]:
        """See `nacre.model.export.Form`."""
        tokenizer = load_tokenizer(source.weights)
        template = go_template(tokenizer)
        notes = Gguf().write(source, folder, precision)
        atomic_write(folder / MODELFILE, _modelfile(source, tokenizer, template))
        return notes

    def reader(self, source: Source, folder: Path) -> Reader:
        """The GGUF file."""
        return Gguf().reader(source, folder)


@dataclass(frozen=True)
class Turns:
    """The texts around what is said; the token that begins a sequence is left out, as llama.cpp adds it.

    Attributes:
        first: before the first question, where there is no system text.
        system: around the system text, which takes the place of `first`.
        question: before a question.
        answer: around an answer that was given, from the question's end on.
        lead: what asks for the next answer.
    """

    first: str
    system: tuple[str, str]
    question: str
    answer: tuple[str, str]
    lead: str

    def rendered(self, turns: list[tuple[str, str]], system: str = "") -> str:
        """A conversation, as the Go template renders it."""
        pieces = [self.system[0] + system + self.system[1] if system else self.first]
        pieces += [
            self.question + text if role == "user" else self.answer[0] + text + self.answer[1] for role, text in turns
        ]
        return "".join(pieces) + self.lead


def go_template(tokenizer: Any) -> str:
    """The chat template in Go's words.

    Raises:
        InputError: the model's own does what cannot be said so.
    """
    turns = turns_of(tokenizer)
    before, behind = map(_go, turns.system)
    head, tail = map(_go, turns.answer)
    return (
        f"{{{{ if .System }}}}{before}{{{{ .System }}}}{behind}{{{{ else }}}}{_go(turns.first)}{{{{ end }}}}"
        "{{ range .Messages }}"
        f'{{{{ if eq .Role "user" }}}}{_go(turns.question)}{{{{ .Content }}}}'
        f'{{{{ else if eq .Role "assistant" }}}}{head}{{{{ .Content }}}}{tail}{{{{ end }}}}'
        f"{{{{ end }}}}{_go(turns.lead)}"
    )


def turns_of(tokenizer: Any) -> Turns:
    """What the model's template writes around a question, an answer and a system text.

    Raises:
        InputError: that depends on more than the turn, so a Go template of these pieces would say something else.
    """
    begin, _, lead = _render(tokenizer, [("user", _QUESTION)]).partition(_QUESTION)
    talk = _render(tokenizer, [("user", _QUESTION), ("assistant", _ANSWER), ("user", _LATER)])
    head, _, rest = talk.partition(_QUESTION)[2].partition(_ANSWER)
    again = rest.partition(_LATER)[0]
    told = _render(tokenizer, [("user", _QUESTION)], _SYSTEM).partition(_QUESTION)[0]
    before, _, behind = told.partition(_SYSTEM)
    question = _common_end(begin, again, behind)
    first, end, after = (text[: len(text) - len(question)] for text in (begin, again, behind))
    found = Turns(first, (before, after), question, (head, end), lead)
    if all(_same(tokenizer, found, system) for system in ("", _SYSTEM)):
        return found
    raise InputError(
        "the chat template cannot be said in Ollama's words: it writes turns in more ways than one",
        where="chat template",
        fix="export with --to gguf, which carries it as it is, for llama.cpp's own server",
    )


def _common_end(*texts: str) -> str:
    """The longest text that all of them end with."""
    count = 0
    while count < min(map(len, texts)) and len({text[-count - 1] for text in texts}) == 1:
        count += 1
    return texts[0][len(texts[0]) - count :]


def _same(tokenizer: Any, found: Turns, system: str) -> bool:
    """Whether the pieces make up what the template renders, short and long."""
    long = [("user", "a b"), ("assistant", "c\nd"), ("user", "e"), ("assistant", "f"), ("user", "g?")]
    return all(found.rendered(turns, system) == _render(tokenizer, turns, system) for turns in (long[:1], long))


def _render(tokenizer: Any, turns: list[tuple[str, str]], system: str = "") -> str:
    messages = tuple(Message(role="assistant" if role == "assistant" else "user", content=text) for role, text in turns)
    text = render(messages, tokenizer, system=system)
    return text.removeprefix(tokenizer.bos_token) if starts_with_bos(tokenizer) else text


def _go(text: str) -> str:
    """A text that Go's templates print as it is."""
    if not text:
        return ""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return '{{ "' + quoted.replace("\r", "\\r") + '" }}'


def _modelfile(source: Source, tokenizer: Any, template: str) -> str:
    stops = [*tokenizer.convert_ids_to_tokens(sorted(stop_ids(tokenizer))), *stop_texts(tokenizer)]
    parameters = {_NAMES.get(name, name): f"{value:g}" for name, value in source.defaults.items()}
    context = positions(source.weights)
    if context:
        parameters["num_ctx"] = str(context)
    lines = [f"# {source.name}", f"FROM ./{FILE}", f'TEMPLATE """{template}"""']
    lines += [f"PARAMETER {name} {value}" for name, value in parameters.items()]
    lines += [f"PARAMETER stop {_quoted(text)}" for text in dict.fromkeys(stops)]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
