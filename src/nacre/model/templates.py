"""Chat templates by LlamaFactory's names: https://github.com/hiyouga/LlamaFactory (its texts, to the character).

Each is a few pieces of text, from which a Jinja template is made. That template is saved with the tokenizer, so
evaluation, serving and other programs render what was trained. `known` finds the pieces again by the Jinja text.

In the pieces ``{content}`` stands for what was said, ``{bos}`` and ``{eos}`` for the tokenizer's own tokens, or
nothing where it has none.
"""

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from nacre.base.errors import unknown

NO_THOUGHT = "<think>\n\n</think>\n\n"  # what a reasoning model writes before an answer that took no thought
# what a model gets that brings no template, unless one is asked for by name
DEFAULT_TEMPLATE = (
    "{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ 'System: ' + m['content'] + '\n' }}"
    "{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token + '\n' }}"
    "{% elif m['role'] == 'tool' %}{{ 'Observation: ' + m['content'] + '\nAssistant:' }}"
    "{% else %}{{ 'Human: ' + m['content'] + '\nAssistant:' }}"
    "{% endif %}{% endfor %}"
)

_SLOT = re.compile(r"(\{content\}|\{bos\}|\{eos\})")
_QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
_POLITE = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
_TASK = "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"


@dataclass(frozen=True)
class Template:
    """The texts of a conversation.

    Attributes:
        user: a question, up to the place where the answer begins.
        assistant: an answer with what ends it.
        system: the system text; `inside` says that it stands at the beginning of the first question's text.
        observation: what a tool said; like a question where it is None.
        prefix: once, before everything else.
        default_system: the system text where a conversation brings none.
        stop: texts that end an answer beside the tokenizer's end of sequence; the first is the one that training
            writes.
        thinks: an answer without a thought begins with an empty one.
        bare: an answer ends with no text; only the last one of a row is ended, by the end-of-sequence token.
    """

    user: str
    assistant: str = "{content}{eos}"
    system: str = "{content}"
    observation: str | None = None
    prefix: str = ""
    default_system: str = ""
    inside: bool = False
    stop: tuple[str, ...] = ()
    thinks: bool = False
    bare: bool = False

    @property
    def lead(self) -> str:
        """What stands before an answer's own text."""
        return self.assistant.partition("{content}")[0]

    def ending(self, eos: str) -> str:
        """What stands after it."""
        return self.assistant.partition("{content}")[2].replace("{eos}", eos)


def _chatml(**more: Any) -> Template:
    """The form that Qwen and many others share."""
    answer = "<|im_end|>\n<|im_start|>assistant\n"
    given = {
        "user": "<|im_start|>user\n{content}" + answer,
        "assistant": "{content}<|im_end|>\n",
        "system": "<|im_start|>system\n{content}<|im_end|>\n",
        "observation": "<|im_start|>user\n<tool_response>\n{content}\n</tool_response>" + answer,
        "stop": ("<|im_end|>",),
    }
    return Template(**(given | more))


def _headed(role: str) -> str:
    """Llama 3's form of a turn."""
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n{{content}}<|eot_id|>"


TEMPLATES: dict[str, Template] = {
    "alpaca": Template(
        user="### Instruction:\n{content}\n\n### Response:\n", assistant="{content}{eos}\n\n", default_system=_TASK
    ),
    "chatml": _chatml(
        observation="<|im_start|>tool\n{content}<|im_end|>\n<|im_start|>assistant\n",
        stop=("<|im_end|>", "<|im_start|>"),
    ),
    "deepseek3": Template(user="<｜User｜>{content}<｜Assistant｜>", prefix="{bos}"),
    "default": Template(
        user="Human: {content}{eos}\nAssistant:", assistant="{content}{eos}\n", system="System: {content}{eos}\n"
    ),
    "empty": Template(user="{content}", assistant="{content}", bare=True),
    "gemma": Template(
        user="<start_of_turn>user\n{content}<end_of_turn>\n<start_of_turn>model\n",
        assistant="{content}<end_of_turn>\n",
        system="{content}\n\n",
        observation="<start_of_turn>tool\n{content}<end_of_turn>\n<start_of_turn>model\n",
        prefix="{bos}",
        inside=True,
        stop=("<end_of_turn>",),
    ),
    "glm4": Template(
        user="<|user|>\n{content}<|assistant|>",
        assistant="\n{content}",
        system="<|system|>\n{content}",
        observation="<|observation|>\n{content}<|assistant|>",
        prefix="[gMASK]<sop>",
        stop=("<|user|>", "<|observation|>"),
        bare=True,
    ),
    "llama2": Template(user="{bos}[INST] {content} [/INST]", system="<<SYS>>\n{content}\n<</SYS>>\n\n", inside=True),
    "llama3": Template(
        user=_headed("user") + "<|start_header_id|>assistant<|end_header_id|>\n\n",
        assistant="{content}<|eot_id|>",
        system=_headed("system"),
        observation=_headed("ipython") + "<|start_header_id|>assistant<|end_header_id|>\n\n",
        prefix="{bos}",
        stop=("<|eot_id|>", "<|eom_id|>"),
    ),
    "mistral": Template(
        user="[INST] {content}[/INST]",
        assistant=" {content}{eos}",
        system="{content}\n\n",
        observation='[TOOL_RESULTS] {"content": {content}}[/TOOL_RESULTS]',
        prefix="{bos}",
        inside=True,
    ),
    "phi": Template(
        user="<|user|>\n{content}<|end|>\n<|assistant|>\n",
        assistant="{content}<|end|>\n",
        system="<|system|>\n{content}<|end|>\n",
        stop=("<|end|>",),
    ),
    "qwen": _chatml(default_system=_QWEN),
    "qwen3": _chatml(thinks=True),
    "qwen3_nothink": _chatml(),
    "vicuna": Template(user="USER: {content} ASSISTANT:", default_system=_POLITE),
    "zephyr": Template(
        user="<|user|>\n{content}{eos}<|assistant|>\n",
        system="<|system|>\n{content}{eos}",
        default_system="You are Zephyr, a helpful assistant.",
    ),
}


def chat_template(name: str) -> str:
    """The Jinja template of that name, as a tokenizer keeps it.

    Raises:
        InputError: there is none of that name; names the nearest.
    """
    if name not in TEMPLATES:
        raise unknown("template", name, TEMPLATES, where="template")
    return _compiled(TEMPLATES[name])


@lru_cache(maxsize=1)
def _by_text() -> dict[str, Template]:
    return {_compiled(template): template for template in TEMPLATES.values()}


def known(jinja: str) -> Template | None:
    """The template that this Jinja text was made from, if it is one of these."""
    return _by_text().get(jinja)


def adopt(tokenizer: Any, name: str | None) -> list[str]:
    """Give a tokenizer the template of that name (None: leave it as it is); returns what was decided, in sentences.

    What ends an answer becomes the tokenizer's end of sequence, as in LlamaFactory, where the vocabulary has it as
    one token. No token is added: a marker that the vocabulary lacks is trained, and looked for, as plain text.

    Raises:
        InputError: there is no template of that name; names the nearest.
    """
    if name is None:
        return []
    jinja = chat_template(name)
    template = TEMPLATES[name]
    replaced = (tokenizer.chat_template or jinja) not in (jinja, DEFAULT_TEMPLATE)
    tokenizer.chat_template = jinja
    notes = [f"template {name}: it takes the place of the one that was in the model's folder"] if replaced else []
    ends = [] if template.bare else [text for text in template.stop[:1] if text != tokenizer.eos_token]
    for text in ends:
        if is_token(tokenizer, text):
            tokenizer.add_special_tokens({"eos_token": text})
            notes.append(f"template {name}: the end of sequence is {text} from now on")
        else:
            notes.append(f"template {name}: the vocabulary has no token {text}; answers are ended by it as plain text")
    if tokenizer.eos_token is None and (template.bare or "{eos}" in template.assistant):
        notes.append(f"template {name}: the tokenizer has no end of sequence, so answers are trained without an end")
    return notes


def is_token(tokenizer: Any, text: str) -> bool:
    """Whether the tokenizer reads `text` as one token that is exactly this text."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return len(ids) == 1 and tokenizer.convert_ids_to_tokens(ids[0]) == text


def _compiled(template: Template) -> str:
    """Jinja. A question ends with the marker of the answer, so `add_generation_prompt` changes nothing."""
    answer = _written(template.assistant)
    if template.thinks:
        thought = (
            "{% if '<think>' not in said and '</think>' not in said %}{{ " + _quoted(NO_THOUGHT) + " }}{% endif %}"
        )
        answer = thought + answer
    system = _expression(template.system, "told")
    before = "{% if told %}{{ " + system + " }}{% endif %}" if not template.inside else ""
    within = "{% if told %}{% set said = " + system + " ~ said %}{% endif %}" if template.inside else ""
    question, observed = _written(template.user), _written(template.observation or template.user)
    return (
        "{% set talk = namespace(begun=false, told=" + _quoted(template.default_system) + ") %}"
        "{% for message in messages %}{% set said = message['content'] %}"
        "{% if message['role'] == 'system' %}{% set talk.told = said %}"
        "{% elif message['role'] == 'assistant' %}" + answer + "{% else %}"
        "{% set told = '' if talk.begun else talk.told %}"
        "{% if not talk.begun %}" + _written(template.prefix) + "{% endif %}" + before + within +
        "{% if message['role'] == 'tool' %}" + observed + "{% else %}" + question + "{% endif %}"
        "{% set talk.begun = true %}{% endif %}{% endfor %}"
    )  # fmt: skip


def _parts(piece: str, content: str) -> list[str]:
    """Jinja expressions that make up a piece."""
    slots = {"{content}": content, "{bos}": "(bos_token or '')", "{eos}": "(eos_token or '')"}
    return [slots.get(part) or _quoted(part) for part in _SLOT.split(piece) if part]


def _expression(piece: str, content: str) -> str:
    return " ~ ".join(_parts(piece, content))


def _written(piece: str) -> str:
    """The piece as Jinja that prints it."""
    return "{{ " + _expression(piece, "said") + " }}" if piece else ""


def _quoted(text: str) -> str:
    """A Jinja string, which knows the same escapes."""
    return json.dumps(text)
