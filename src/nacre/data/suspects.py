"""What can be trained on but should be looked at: row by row, counted, with the first places."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from nacre.data.clean.tokens import CONTROL_TOKEN
from nacre.data.seen import Place, Seen
from nacre.records import Example

LONG_ROW_CHARS = 20_000
MAX_LABELS = 20
MAX_LABEL_CHARS = 40
MIN_ROWS_PER_LABEL = 5
IMBALANCE = 3
_SHOWN_PLACES = 5
_LOOKED_CHARS = 4000  # of a row, for wrongly decoded text

_SCRIPT = re.compile(r"<script\b|javascript:|\bon(?:error|load|click)\s*=\s*[\"']", re.IGNORECASE)
_LOST = re.compile("\ufffd|锟斤拷|ï»¿|â€[™œ\x9d“”¦]")
_LATIN_RUN = re.compile("[\u00c2-\u00f4][\u0080-\u00bf\u0152-\u0178\u2013-\u2122\u20ac]+")
_CHINESE_RUN = re.compile("[\u3400-\u9fff\ue000-\uf8ff€]{4,}")
_CHINESE = re.compile("[ -~\u2000-\u206f]*(?:[\u3000-\u30ff\u4e00-\u9fff\uff00-\uffef][ -~\u2000-\u206f]*)+")
_LIKELY = re.compile(r"[\u00a0-\u024f\u0400-\u04ff\u2000-\u206f\u20a0-\u20bf\u3000-\u30ff\u4e00-\u9fff\uff00-\uffef]+")


def garbled(text: str) -> bool:
    """Whether a text was decoded by the wrong rule before it came here (mojibake).

    It is tried in reverse: letters of Western Europe that are the bytes of UTF-8 text, and Chinese characters that
    are. Honest text happens to be such bytes too (about one row of a hundred), so what comes out must be letters that
    people write, and Chinese where Chinese went in.
    """
    text = text[:_LOOKED_CHARS]
    if _LOST.search(text):
        return True
    latin = (_undone(run[0], "cp1252") or _undone(run[0], "latin-1") for run in _LATIN_RUN.finditer(text))
    if any(found and _LIKELY.fullmatch(found) for found in latin):
        return True
    chinese = (_undone(run[0], "gb18030") for run in _CHINESE_RUN.finditer(text))
    return any(found and _CHINESE.fullmatch(found) for found in chinese)


def _undone(text: str, codec: str) -> str | None:
    """What the text was, if this codec was the wrong rule."""
    try:
        data = text.encode(codec)
    except UnicodeEncodeError:
        return None
    for cut in range(4 if len(data) > 4 else 1):  # a run may end in the middle of a character
        try:
            return data[: len(data) - cut].decode()
        except UnicodeDecodeError:
            continue
    return None


def text_of(row: Example) -> str:
    """All that the row says."""
    return "\n".join((row.system, *(turn.content for turn in (*row.prompt, *row.answers))))


def _same_answers(row: Example, _: str) -> bool:
    return row.kind == "preference" and row.answers[0] == row.answers[1]


_SUSPECTS: tuple[tuple[Callable[[Example, str], bool], str], ...] = (
    (
        lambda _, text: CONTROL_TOKEN.search(text) is not None,
        "rows hold control tokens of chat templates such as <|im_end|>, which can end an answer early",
    ),
    (lambda _, text: _SCRIPT.search(text) is not None, "rows hold scripts of web pages"),
    (lambda _, text: garbled(text), "rows hold text that was decoded wrongly (mojibake); look for a sound copy"),
    (_same_answers, "rows have the same answer as chosen and as rejected, and teach nothing"),
    (
        lambda _, text: len(text) > LONG_ROW_CHARS,
        f"rows are longer than {LONG_ROW_CHARS:,} characters and will be cut at max_length",
    ),
)


class Suspects:
    """Looks at the usable rows of a dataset, one after another, and says what it found."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._files: list[str] = []
        self._counts = [0] * len(_SUSPECTS)
        self._places: list[list[Place]] = [[] for _ in _SUSPECTS]
        self._labels: Counter[str] | None = Counter()
        self._train = 0

    def look(self, split: str, row: Example) -> None:
        """One more usable row of train or dev."""
        if not self._files or self._files[-1] != row.origin.file:
            self._files.append(row.origin.file)
        place = (len(self._files) - 1, row.origin.line)
        self._seen.add(split, row.content_id, place)
        text = text_of(row)
        for number, (is_suspect, _) in enumerate(_SUSPECTS):
            if is_suspect(row, text):
                self._counts[number] += 1
                if len(self._places[number]) < _SHOWN_PLACES:
                    self._places[number].append(place)
        if split == "train":
            self._train += 1
            self._count_label(row)

    def warnings(self) -> list[str]:
        """What was found, a sentence each."""
        repeats, places = self._seen.repeats("train", _SHOWN_PLACES)
        shared, shared_places = self._seen.shared("dev", "train", _SHOWN_PLACES)
        distinct = f"train rows repeat an earlier row exactly; {self._train - repeats} are distinct"
        found = [
            (repeats, distinct, places),
            (shared, "dev rows are also train rows; training leaves them out", shared_places),
            *zip(self._counts, (what for _, what in _SUSPECTS), self._places, strict=True),
        ]
        said = [f"{count} {what} ({self._shown(count, at)})" for count, what, at in found if count]
        return said + self._imbalance()

    def _count_label(self, row: Example) -> None:
        """Count the classes, until there are too many to be classes."""
        if self._labels is None or row.kind != "sft":
            return
        answer = row.answer.strip()
        self._labels[answer] += 1
        if len(answer) > MAX_LABEL_CHARS or len(self._labels) > MAX_LABELS:
            self._labels = None

    def _imbalance(self) -> list[str]:
        labels = self._labels or Counter()
        if not 2 <= len(labels) <= sum(labels.values()) // MIN_ROWS_PER_LABEL:
            return []
        (most, high), *_, (least, low) = labels.most_common()
        if high <= IMBALANCE * low:
            return []
        said = f"'{most}' {high} rows, '{least}' {low} rows (more than {IMBALANCE}:1)"
        return [f"the answers are out of balance: {said}"]

    def _shown(self, count: int, places: Sequence[Place]) -> str:
        shown = ", ".join(f"{Path(self._files[file]).name} line {line}" for file, line in places)
        return shown + (", …" if count > len(places) else "")
