"""From token ids to text that can be shown: no half characters, nothing of a stop text. No torch."""

from typing import Any

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_MOST_HELD_TOKENS = 32  # bytes that became no character by then never will


class Decoder:
    """Decodes a growing list of ids; a character whose bytes are not all there yet is held back.

    The ids before the new ones are decoded with them, because a token's text may depend on its neighbours
    (a leading space, bytes of one character spread over several tokens).
    """

    def __init__(self, tokenizer: Any) -> None:
        # `decode` itself looks through every id for tensors and arrays before it comes to this, once for each token.
        self._decoded = getattr(tokenizer, "_decode", tokenizer.decode)
        self._window: list[int] = []  # ids whose text is shown already, then ids that may still be incomplete
        self._shown_ids = 0  # how many of the window's ids are the first kind
        self._shown = 0  # characters of the window's text that were given out

    def add(self, token: int) -> str:
        """The text that became certain with this token; may be empty."""
        self._window.append(token)
        text = self._decode(self._window)
        certain = text.rstrip(_REPLACEMENT)
        if len(self._window) - self._shown_ids > _MOST_HELD_TOKENS:
            certain = text
        new = certain[self._shown :]
        self._shown = max(self._shown, len(certain))
        if new and certain == text:
            self._window = self._window[self._shown_ids :]
            self._shown_ids = len(self._window)
            self._shown = len(self._decode(self._window))
        return new

    def _decode(self, ids: list[int]) -> str:
        return str(self._decoded(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


class StopTexts:
    """Lets text through up to the first stop text; what may be the beginning of one is held back."""

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = stop
        self._held = ""
        self.stopped = False

    def add(self, text: str) -> str:
        """The text that may be shown now. After a stop text was met `stopped` is true and nothing more comes."""
        if self.stopped:
            return ""
        text = self._held + text
        places = [place for stop in self._stop if (place := text.find(stop)) >= 0]
        if places:
            self.stopped, self._held = True, ""
            return text[: min(places)]
        held = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def rest(self) -> str:
        """What was held back, once the answer is over."""
        held, self._held = self._held, ""
        return held


class Opening:
    """Takes one text away from the beginning of an answer; an answer that begins otherwise passes whole."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._held: str | None = ""  # None once it is known how the answer begins

    def add(self, text: str) -> str:
        """The text that may pass now."""
        if self._held is None:
            return text
        held = self._held + text
        if len(held) < len(self._text) and self._text.startswith(held):
            self._held = held
            return ""
        self._held = None
        return held.removeprefix(self._text)

    def rest(self) -> str:
        """What was held back, once the answer is over."""
        held, self._held = self._held or "", None
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
