"""Which share of the questions people ask is covered by rows that the champion has learned.

A question is covered where some row's question is like it: the cosine of their TF-IDF weighted parts of words (two to
four letters, so that Chinese needs no words) is at least the similarity asked for. It says that something alike was
taught, not that the answer is right.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.feature_extraction.text import TfidfVectorizer

from nacre.base.errors import InputError
from nacre.cycle.lineage import ancestry, rows_of, tasks_of
from nacre.cycle.workspace import Workspace

LATEST = 2000  # interactions that are looked at
_AT_ONCE = 256  # questions compared with all rows in one product


@dataclass(frozen=True)
class Coverage:
    """Questions from one place, and how many of them are covered.

    Attributes:
        interval: of the share, at 95 % (Wilson).
        uncovered: questions nothing was like, the most frequent first.
    """

    source: str
    questions: int
    covered: int
    interval: tuple[float, float]
    uncovered: tuple[str, ...]

    @property
    def share(self) -> float:
        """Covered questions of all."""
        return self.covered / self.questions

    def as_dict(self) -> dict[str, Any]:
        """For the history: numbers only, no words of the users'."""
        low, high = self.interval
        return {
            "source": self.source,
            "questions": self.questions,
            "covered": self.covered,
            "share": round(self.share, 4),
            "interval": [round(low, 4), round(high, 4)],
        }


def coverage(workspace: Workspace, *, questions: Path | None = None, similarity: float = 0.5) -> list[Coverage]:
    """Compare the latest 2000 served questions, and those of a file, with the rows of the champion's tasks.

    Args:
        workspace: with a champion.
        questions: a file with one question a line, relative to the workspace.
        similarity: the least cosine that covers.

    Returns:
        One result for each source that has questions.

    Raises:
        InputError: there is no champion, none of its rows were kept, or the file cannot be read.
    """
    champion = workspace.ledger.slot("champion")
    if champion is None:
        raise InputError("there is no champion yet", where=str(workspace.root), fix="run nacre evolve base first")
    tasks = tasks_of(ancestry(workspace, champion.version)).values()
    rows = sorted({row.prompt[-1].content for task in tasks for row in rows_of(workspace, task) if row.prompt})
    if not rows:
        raise InputError(
            "no questions of the champion's rows are kept, so nothing can be compared with them",
            where="keep.data",
            fix="keep rows (keep.data above 0), or leave coverage out of the schedule",
        )
    found = []
    for source, texts in asked_questions(workspace, questions).items():
        if texts:
            found.append(compare(source, texts, rows, similarity))
    return found


def compare(source: str, questions: Sequence[str], rows: Sequence[str], similarity: float) -> Coverage:
    """Count the questions that some row is like."""
    counts = Counter(questions)
    distinct = list(counts)
    parts = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True).fit([*distinct, *rows])
    asked, known = parts.transform(distinct), parts.transform(rows)
    nearest = np.concatenate(
        [
            (asked[start : start + _AT_ONCE] @ known.T).max(axis=1).toarray().ravel()
            for start in range(0, len(distinct), _AT_ONCE)
        ]
    )
    inside = {text: bool(like >= similarity) for text, like in zip(distinct, nearest, strict=True)}
    covered = sum(count for text, count in counts.items() if inside[text])
    low, high = binomtest(covered, len(questions)).proportion_ci(method="wilson")
    outside = tuple(text for text, _ in counts.most_common() if not inside[text])
    return Coverage(source, len(questions), covered, (float(low), float(high)), outside)


def asked_questions(workspace: Workspace, questions: Path | None) -> dict[str, list[str]]:
    """The latest 2000 served questions, and those of a file, by where they are from.

    Raises:
        InputError: the file cannot be read.
    """
    served = [_question(turns) for turns in _served(workspace)]
    asked = {"served requests": [text for text in served if text]}
    if questions is not None:
        asked[str(questions)] = _read(workspace.root / questions)
    return asked


def _served(workspace: Workspace) -> list[list[tuple[str, str]]]:
    latest = workspace.ledger.releases.observed.latest(LATEST)
    return [[(turn.role, turn.content) for turn in one.messages] for one in latest]


def _question(turns: Sequence[tuple[str, str]]) -> str:
    return next((text.strip() for role, text in reversed(turns) if role == "user"), "")


def _read(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "the file of questions cannot be read", where=f"{path}: {error}", fix="write one question a line, in UTF-8"
        ) from None
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise InputError("the file of questions is empty", where=str(path), fix="write one question a line, in UTF-8")
    return found
