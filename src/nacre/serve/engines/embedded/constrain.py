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

_SCHEMA_BYTES = 64 * 1024
_WHITE_SPACE = 32  # a model that has nothing more to say would write spaces until its last token
_ELSEWHERE = re.compile(r'"\$(?:ref|dynamicRef|recursiveRef)": "(?!#)')  # xgrammar would let anything stand there
_CACHE_BYTES = 64 * 1024 * 1024


class Constraint:
    """The shape of one answer, and how far it has come."""

    def __init__(self, grammar: Any, vocabulary: int) -> None:
        self._matcher = xgrammar.GrammarMatcher(grammar)
        self._bits = xgrammar.allocate_token_bitmask(1, vocabulary)
        self._vocabulary = vocabulary

    def mask(self, logits_V: torch.Tensor) -> None:
        """Set the logits of tokens that may not come next to -inf. On the CPU, in place."""
        self._matcher.fill_next_token_bitmask(self._bits)
        words = self._bits[0]
        places = torch.arange(32, dtype=torch.int32)
        allowed_V = ((words[:, None] >> places) & 1).bool().flatten()[: self._vocabulary]
        logits_V[: self._vocabulary].masked_fill_(~allowed_V, -torch.inf)
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

    def constraint(self, asked: JsonFormat) -> Constraint:
        """What holds an answer to the format.

        Raises:
            InputError: xgrammar does not know what the schema asks for.
        """
        if self._compiler is None:
            self._compiler = self._made()
        schema = {"type": "object"} if asked.schema is None else dict(asked.schema)
        text = json.dumps(schema)
        if len(text) > _SCHEMA_BYTES:
            raise InputError(
                f"the JSON schema takes {len(text)} bytes", where="response_format", fix=f"at most {_SCHEMA_BYTES}"
            )
        if _ELSEWHERE.search(text):
            raise InputError(
                "the JSON schema points elsewhere", where="response_format", fix="put what $ref names into $defs"
            )
        try:
            grammar = self._compiler.compile_json_schema(
                text, strict_mode=asked.schema is not None, max_whitespace_cnt=_WHITE_SPACE
            )
        except (RuntimeError, ValueError, TypeError) as error:
            reason = str(error).strip().splitlines()[-1:] or ["no reason given"]
            raise InputError(
                f"the JSON schema cannot be enforced: {reason[0]}", where="response_format", fix="simplify it"
            ) from None
        return Constraint(grammar, self._vocabulary)

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
        return xgrammar.GrammarCompiler(told, max_threads=1, cache_limit_bytes=_CACHE_BYTES)
