"""Answers that must be JSON: which tokens may come next, told by xgrammar (Dong et al. 2024, arXiv 2411.15100).

xgrammar is optional: this module is imported when the first request asks for it (`prompting.FORMATS`).
"""

import json
import re
from typing import Any

import torch
import xgrammar

from nacre.base.errors import InputError
from nacre.serve.engines import JsonFormat
from nacre.serve.engines.embedded.schemas import enforceable

_SCHEMA_BYTES = 64 * 1024
_WHITE_SPACE = 32  # a model that has nothing more to say would write spaces until its last token
_SOURCE = re.compile(r"\[[\d:]+\] \S+\.(?:cc|h):\d+: ")  # where in xgrammar an error comes from: no help to a client
_REASON = 300  # characters: some reasons repeat the schema
_CONTROLS = frozenset(range(0x20)) - frozenset(b"\n\r")  # bytes
_CACHE_BYTES = 64 * 1024 * 1024


class Constraint:
    """The shape of one answer, and how far it has come."""

    def __init__(self, grammar: Any, vocabulary: int, never_V: torch.Tensor) -> None:
        self._matcher = xgrammar.GrammarMatcher(grammar)
        self._bits = xgrammar.allocate_token_bitmask(1, vocabulary)
        self._vocabulary = vocabulary
        self._never_V = never_V

    def mask(self, logits_V: torch.Tensor) -> None:
        """Set the logits of tokens that may not come next to -inf. On the CPU, in place."""
        self._matcher.fill_next_token_bitmask(self._bits)
        words = self._bits[0]
        places = torch.arange(32, dtype=torch.int32)
        allowed_V = ((words[:, None] >> places) & 1).bool().flatten()[: self._vocabulary]
        logits_V[: self._vocabulary].masked_fill_(~allowed_V | self._never_V, -torch.inf)
        logits_V[self._vocabulary :] = -torch.inf

    def accept(self, token: int) -> bool:
        """Go on with this token; whether the answer is complete and nothing may follow."""
        self._matcher.accept_token(token)
        return bool(self._matcher.is_terminated())


class Constrainer:
    """Makes constraints for one version.

    Args:
        vocabulary: how many logits the model has.
        stop: ids of the tokens that end an answer.
    """

    def __init__(self, tokenizer: Any, vocabulary: int, stop: set[int]) -> None:
        self._tokenizer, self._vocabulary, self._stop = tokenizer, vocabulary, stop
        self._compiler: Any = None
        self._never_V = torch.zeros(vocabulary, dtype=torch.bool)

    def constraint(self, asked: JsonFormat) -> Constraint:
        """What holds an answer to the format.

        Raises:
            InputError: the schema asks for what xgrammar does not hold an answer to.
        """
        if self._compiler is None:
            self._compiler = self._made()
        text = _dumped({"type": "object"} if asked.schema is None else dict(asked.schema))
        text = json.dumps(enforceable(json.loads(text)))
        try:
            grammar = self._compiler.compile_json_schema(
                text, strict_mode=asked.schema is not None, max_whitespace_cnt=_WHITE_SPACE
            )
        except (RuntimeError, ValueError, TypeError) as error:
            reason = _SOURCE.sub("", (str(error).strip().splitlines() or ["no reason given"])[-1])[:_REASON]
            raise InputError(
                f"the JSON schema cannot be enforced: {reason}", where="response_format", fix="simplify it"
            ) from None
        return Constraint(grammar, self._vocabulary, self._never_V)

    def _made(self) -> Any:
        try:
            told = xgrammar.TokenizerInfo.from_huggingface(
                self._tokenizer, vocab_size=self._vocabulary, stop_token_ids=sorted(self._stop)
            )
        except (RuntimeError, ValueError, TypeError) as error:
            raise InputError(
                f"the version's tokenizer cannot be held to a format: {error}",
                where="response_format",
                fix="ask without it",
            ) from None
        # Where a text has a length, xgrammar lets bare control characters into it, which are no JSON.
        never = [token for token, raw in enumerate(told.decoded_vocab) if not _CONTROLS.isdisjoint(raw)]
        self._never_V[[token for token in never if token not in self._stop]] = True
        return xgrammar.GrammarCompiler(told, max_threads=1, cache_limit_bytes=_CACHE_BYTES)


def _dumped(schema: dict[str, Any]) -> str:
    try:
        text = json.dumps(schema)
    except (RecursionError, ValueError, TypeError):
        raise InputError(
            "the JSON schema is nested too deeply, or is no JSON", where="response_format", fix="use $defs and $ref"
        ) from None
    if len(text) > _SCHEMA_BYTES:
        raise InputError(
            f"the JSON schema takes {len(text)} bytes", where="response_format", fix=f"at most {_SCHEMA_BYTES}"
        )
    return text
