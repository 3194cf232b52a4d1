"""Choice accuracy: which of the possible answers an answer names."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from nacre.evaluate.metrics.exact_match import plain
from nacre.evaluate.metrics.metric import Metric, Scored
from nacre.evaluate.metrics.words import unspaced

MOST_OPTIONS = 20
# "A simple sum shows …" names no A; "A is right" does, as no article stands before such a word
_NO_NOUN = "is|was|and|or|but|because|since|as|for|would|should|could|must|can|will|has|does|seems|looks|fits|matches"
_ARTICLE = re.compile(rf"(^\s*|[.!?。！？\n]\s*)A(?=\s+(?!(?:{_NO_NOUN})\b)[a-z])")
_LETTER = re.compile(r"[A-Za-z]\Z")


class ChoiceAccuracy(Metric):
    """1 where the one option that the answer names is the reference, else 0.

    The options are the different references of the task; width (NFKC) and, of more than one letter, case tell none
    apart. An option is named where it stands in the answer as words of its own (a single letter must be a capital, as
    "a" is a word, and no article at the start of a sentence); of options that overlap the longest counts. An answer
    that is an option names it, whatever else it holds; one that names none or several names nothing.
    """

    definition = (
        "share of answers that name the reference and none of the task's other options "
        "(its different references, at most 20); of overlapping options the longest counts"
    )

    def applies(self, scored: Scored) -> bool:
        """Whether there are few options: at most 20, and at most half as many as rows."""
        return has_options(scored.task_references)

    def measure(self, scored: Scored) -> list[float]:
        """1.0 or 0.0 per row."""
        options = _options(scored.task_references)
        return [
            float(named(answer, options) == option_of(reference))
            for answer, reference in zip(scored.answers, scored.references, strict=True)
        ]

    def note(self, scored: Scored) -> str:
        """How many answers name no option, or several."""
        options = _options(scored.task_references)
        lost = sum(named(answer, options) is None for answer in scored.answers)
        return (
            f"choice_accuracy: {lost} of {len(scored.answers)} answers name none of the {len(options)} options, or "
            "several"
            if lost
            else ""
        )


def has_options(references: Iterable[str]) -> bool:
    """Whether these references are a choice: each of at most 20 comes twice on average, none is empty."""
    given = [option_of(reference) for reference in references]
    different = set(given)
    return 1 < len(different) <= MOST_OPTIONS and 2 * len(different) <= len(given) and "" not in different


def one_letter(references: Sequence[str]) -> bool:
    """Whether every reference is the capital letter of a choice, A to H."""
    return bool(references) and all(plain(reference) in set("ABCDEFGH") for reference in references)


def named(answer: str, options: Sequence[str]) -> str | None:
    """The one option that an answer names, or None. The options must be sorted, the longest first."""
    if option_of(answer) in options:
        return option_of(answer)
    found: set[str] = set()
    rest = unicodedata.normalize("NFKC", answer)
    for option in filter(None, options):
        if option == "A":  # after the longer ones, which may begin with the article
            rest = _ARTICLE.sub(r"\1 ", rest)
        pattern = _pattern(option)
        if pattern.search(rest):
            found.add(option)
            rest = pattern.sub(" ", rest)
    return found.pop() if len(found) == 1 else None


def option_of(text: str) -> str:
    """The text as an option: Unicode form NFKC, in small letters unless it is a single one."""
    option = unicodedata.normalize("NFKC", text).strip()
    return option if len(option) == 1 else option.lower()


def _options(references: Iterable[str]) -> list[str]:
    return sorted({option_of(reference) for reference in references}, key=lambda option: (-len(option), option))


def _pattern(option: str) -> re.Pattern[str]:
    """Finds an option as words of its own; scripts without spaces have no words to end at."""
    before = r"(?<![^\W_])" if _spaced(option[0]) else ""
    after = r"(?![^\W_])" if _spaced(option[-1]) else ""
    if _LETTER.match(option):
        before, after = r"(?<![A-Za-z0-9'])", r"(?![A-Za-z0-9'])"  # 选B is B
    case = re.NOFLAG if _LETTER.match(option) else re.IGNORECASE
    return re.compile(f"{before}{re.escape(option)}{after}", case)


def _spaced(character: str) -> bool:
    return character.isalnum() and not unspaced(character)
