"""What single tokens are in bytes and as text, for log probabilities."""

import json
import re
from functools import lru_cache
from typing import Any

from nacre.serve.engines import Logprob

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # SentencePiece's mark of a space


class TokenTexts:
    """The bytes of a tokenizer's tokens."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._special = {token: one.content for token, one in tokenizer.added_tokens_decoder.items()}
        backend = getattr(tokenizer, "backend_tokenizer", None)
        decoder = json.loads(backend.to_str()).get("decoder") if backend is not None else None
        self._byte_level = "ByteLevel" in json.dumps(decoder)

    def raw(self, token: int) -> bytes:
        """The bytes that a token stands for."""
        if token in self._special:
            return str(self._special[token]).encode()
        name = self._tokenizer.convert_ids_to_tokens(token)
        if name is None:  # the model has more rows than the tokenizer tokens
            return b""
        if self._byte_level:
            table = _byte_table()
            return bytes(table[letter] for letter in name if letter in table)
        found = _BYTE.fullmatch(name)
        return bytes([int(found[1], 16)]) if found else str(name).replace(_SPACE, " ").encode()

    def told(self, token: int, logprob: float | None, top: tuple[tuple[int, float], ...]) -> Logprob:
        """A token with its log probability, and the likeliest at its place."""
        raw = self.raw(token)
        others = tuple((_text(other), other, number) for other, number in ((self.raw(one), lp) for one, lp in top))
        return Logprob(_text(raw), raw, logprob, others)


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")


@lru_cache
def _byte_table() -> dict[str, int]:
    """Byte-level BPE's letters for bytes: printable ones stand for themselves, the others for letters from 256 on."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + place): byte for place, byte in enumerate(hidden)}
