"""What a server is asked: our prompt and sampling in the words of OpenAI's API."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from nacre.base.errors import InputError
from nacre.serve.engines import ChatPrompt, Feature, JsonFormat, Prompt, Sampling
from nacre.serve.engines.upstream.answers import BYTES_A_TOKEN
from nacre.serve.engines.upstream.settings import Kind

FEATURES: dict[Kind, frozenset[Feature]] = {
    "openai": frozenset({"logprobs", "json", "tools", "penalties", "embeddings", "late_system"}),
    "vllm": frozenset({"logprobs", "echo", "json", "tools", "penalties", "embeddings", "late_system"}),
    "llamacpp": frozenset({"logprobs", "json", "tools", "penalties", "embeddings", "late_system"}),
    "nacre": frozenset({"logprobs", "echo", "json", "tools", "penalties", "embeddings", "late_system"}),
}

# OpenAI's own API knows none of these; the others do, two of them by these names.
_EXTRAS: dict[Kind, dict[str, str]] = {
    "openai": {},
    "vllm": {"top_k": "top_k", "min_p": "min_p", "repetition_penalty": "repetition_penalty"},
    "llamacpp": {"top_k": "top_k", "min_p": "min_p", "repetition_penalty": "repeat_penalty"},
    "nacre": {"top_k": "top_k", "min_p": "min_p", "repetition_penalty": "repetition_penalty"},
}
_SAME: dict[str, Any] = {"top_p": 1.0, "seed": None, "presence_penalty": 0.0, "frequency_penalty": 0.0}
_BEYOND: dict[str, Any] = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. `body` lacks the model's name, which differs from server to server."""

    path: str
    body: dict[str, Any]
    chat: bool
    stream: bool


def asked(kind: Kind, prompt: Prompt, sampling: Sampling) -> Asked:
    """The request for one answer.

    Raises:
        InputError: servers of that kind do not know a parameter that would change the answer.
    """
    body: dict[str, Any] = {"temperature": sampling.temperature, "stream": sampling.stream}
    chat = isinstance(prompt, ChatPrompt)
    if isinstance(prompt, ChatPrompt):
        body["messages"] = prompt.turns or _turns(prompt)
        if prompt.tools:
            body["tools"] = prompt.tools
        if prompt.tool_choice is not None:
            body["tool_choice"] = prompt.tool_choice
    else:
        body["prompt"] = prompt.text
        if sampling.echo:
            body["echo"] = True
    if sampling.stream:
        body["stream_options"] = {"include_usage": True}
    if sampling.max_tokens is not None:
        body["max_completion_tokens" if kind == "openai" and chat else "max_tokens"] = sampling.max_tokens
    if kind == "vllm" and sampling.tenant:
        body["cache_salt"] = hashlib.sha256(f"nacre {sampling.tenant}".encode()).hexdigest()
    if not _says_no_more(sampling):
        body |= _same_word(sampling) | _extras(kind, sampling) | _shaped(sampling, chat)
    return Asked("chat/completions" if chat else "completions", body, chat, sampling.stream)


def estimated(asked: Asked) -> int:
    """Tokens of what nobody has counted: the ids of a prompt or of inputs for embeddings, or one for four bytes of
    what is sent, tools included.
    """
    body = asked.body
    if not asked.chat:
        return sum(map(_estimated, body["input"] if "input" in body else (body["prompt"],)))
    tools = len(orjson.dumps(body["tools"])) if body.get("tools") else 0
    return 1 + (len(orjson.dumps(body["messages"])) + tools) // BYTES_A_TOKEN


def _estimated(prompt: str | Sequence[int]) -> int:
    return 1 + len(orjson.dumps(prompt)) // BYTES_A_TOKEN if isinstance(prompt, str) else len(prompt)


def _says_no_more(sampling: Sampling) -> bool:
    """Whether temperature and length are all that was said, as in most requests."""
    return not (
        sampling.top_p != 1.0
        or sampling.seed is not None
        or sampling.stop
        or sampling.presence_penalty
        or sampling.frequency_penalty
        or sampling.top_k
        or sampling.min_p
        or sampling.repetition_penalty != 1.0
        or sampling.logit_bias
        or sampling.logprobs is not None
        or sampling.format is not None
    )


def _shaped(sampling: Sampling, chat: bool) -> dict[str, Any]:
    """What needs other words or another form than ours."""
    body: dict[str, Any] = {}
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    if sampling.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": sampling.logprobs} if chat else {"logprobs": sampling.logprobs}
    if sampling.format is not None:
        body["response_format"] = _format(sampling.format)
    return body


def _same_word(sampling: Sampling) -> dict[str, Any]:
    """What we and OpenAI's API call the same; only what differs from the default, which servers may not know."""
    return {name: value for name, neutral in _SAME.items() if (value := getattr(sampling, name)) != neutral}


def _extras(kind: Kind, sampling: Sampling) -> dict[str, Any]:
    """What OpenAI's API does not have."""
    found = {}
    for name, neutral in _BEYOND.items():
        if (value := getattr(sampling, name)) != neutral:
            if name not in _EXTRAS[kind]:
                what = f"'{name}' is not known to the servers behind this one"
                raise InputError(what, where=name, fix="leave it out")
            found[_EXTRAS[kind][name]] = value
    return found


def _format(wanted: JsonFormat) -> dict[str, Any]:
    if wanted.schema is None:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": wanted.schema}}


def _turns(prompt: ChatPrompt) -> list[dict[str, str]]:
    turns = [{"role": "system", "content": prompt.system}] if prompt.system else []
    return turns + [{"role": message.role, "content": message.content} for message in prompt.messages]
