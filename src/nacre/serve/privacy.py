"""What is taken out of people's texts before they are written: secrets and personal data, by the data chain's steps."""

import hashlib
import threading
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import hyperscan
import orjson

from nacre.base.errors import InputError, NacreError
from nacre.base.hashing import canonical_json
from nacre.data.clean import CLEANERS
from nacre.data.clean.chain import Chain, choose
from nacre.data.clean.places import Place
from nacre.records import Feedback, Interaction

_ONE_AT_A_TIME = threading.Lock()  # steps made from the same settings share an automaton, which is not for two threads

_FAILURES = (  # of third parties' steps too; what is none of these ends the writer, and so keeps nothing either
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    NacreError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    hyperscan.error,
)
_UNSEEN = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\ufeff"))

Kept = TypeVar("Kept", Interaction, Feedback)


class Redactor:
    """Cleans what was asked, answered and said of it. Used by one thread.

    Args:
        steps: names of steps of `nacre data clean` that remove what is private; none leaves texts as they are.

    Attributes:
        removed: what was taken out so far, by kind.
        refused: answers and opinions that a step could not clean: they must not be written.

    Raises:
        InputError: no step has that name, or it is none that removes what is private.
    """

    def __init__(self, steps: Sequence[str] = ()) -> None:
        for name in steps:
            if not CLEANERS.load(name, where="serve.privacy.clean").private:
                known = ", ".join(one for one in CLEANERS.names() if CLEANERS.load(one).private)
                raise InputError(
                    f"the step '{name}' removes nothing that is private",
                    where="serve.privacy.clean",
                    fix=f"name some of: {known}",
                )
        self._steps = choose(list(steps)) if steps else {}
        self._chain: Chain | None = None
        self.removed: Counter[str] = Counter()
        self.refused = 0

    def prepare(self) -> None:
        """Make the patterns ready, which takes a moment; else the first `clean` does it."""
        if self._steps and self._chain is None:
            self._chain = Chain(self._steps)

    def clean(self, one: Kept) -> Kept | None:
        """The same without what is private, an answer with the hash of its prompt; None where a step failed."""
        given = [*(turn.content for turn in one.messages), one.answer] if isinstance(one, Interaction) else [one.text]
        texts = [text if text.isascii() else _writable(text) for text in given]
        try:
            self.prepare()
            removed = self._cleaned(texts)
        except _FAILURES:
            self.refused += 1
            return None
        if isinstance(one, Feedback):
            return one if texts == given else one.model_copy(update={"text": texts[0]})
        changed: dict[str, object] = {}
        if texts != given:
            self.removed.update(removed)
            turns = zip(one.messages, texts, strict=False)
            changed["messages"] = tuple(turn.model_copy(update={"content": text}) for turn, text in turns)
            changed |= {"answer": texts[-1], "removed": removed}
        changed["prompt"] = _prompt_hash(one, texts)
        return one.model_copy(update=changed)

    def _cleaned(self, texts: list[str]) -> dict[str, int]:
        """Clean the texts in place; what was removed, by kind.

        What is written in characters of another width, or with signs between that nobody sees, is looked for in the
        plain form of the text, which takes the text's place where something private is in it.
        """
        if self._chain is None:
            return {}
        with _ONE_AT_A_TIME:
            self._chain.texts({}, [Place(texts, place, True) for place in range(len(texts))])
            for place, text in enumerate(texts):
                if not text.isascii() and (plain := unicodedata.normalize("NFKC", text.translate(_UNSEEN))) != text:
                    again = [plain]
                    self._chain.texts({}, [Place(again, 0, True)])
                    if again[0] is not plain:
                        texts[place] = again[0]
            removed: Counter[str] = Counter()
            for tally in self._chain.tallies:
                if tally.texts or tally.cleaner.counts:  # for most texts nothing was done
                    removed.update(tally.taken().counts)
        return dict(removed)


def _writable(text: str) -> str:
    """The text with � for half a character, which no file and no database takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _prompt_hash(one: Interaction, texts: Sequence[str]) -> str:
    """Of the conversation as it is kept; the version, the time and who asked are no part of it."""
    if not one.messages:
        return ""
    turns = [(turn.role, text) for turn, text in zip(one.messages, texts, strict=False)]
    try:
        data = orjson.dumps(turns)  # the bytes of `canonical_json`, in a tenth of the time
    except TypeError:  # half a character in a role
        data = canonical_json(turns).encode("utf-8", "surrogatepass")
    return hashlib.sha256(data).hexdigest()
