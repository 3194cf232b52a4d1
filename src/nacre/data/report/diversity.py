"""Diversity: how much is said only once.

Distinct-n is the share of different n-grams (Li et al. 2016, A diversity-promoting objective function). It falls with
the length of the text, so it is read off the first 20,000 tokens of a sample: increments of any size can be compared.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from nacre.data.report.records import Diversity, Flag, Said
from nacre.data.report.sample import Kept
from nacre.data.report.words import tfidf, tokens

TOKENS = 20_000
SIMILAR_ROWS = 500  # compared each with each
LEAST_PROMPTS = 0.9
MOST_SIMILAR = 0.9


def result(rows: Sequence[Kept], distinct_prompts: float | None) -> Diversity:
    """The figures of a sample; `distinct_prompts` is counted over all rows."""
    prompts, read = distinct(row.prompt for row in rows)
    answers, _ = distinct(row.answer for row in rows)
    return Diversity(
        distinct_prompts=distinct_prompts,
        prompt_distinct=prompts,
        answer_distinct=answers,
        tokens=read,
        self_similarity=self_similarity([row.text for row in rows[:SIMILAR_ROWS]]),
        sampled=len(rows),
    )


def distinct(texts: Iterable[str], limit: int = TOKENS) -> tuple[tuple[float, float] | None, int]:
    """Distinct-1 and -2 of the first `limit` tokens, and how many tokens there were; None without any pair."""
    ones: set[str] = set()
    twos: set[tuple[str, str]] = set()
    count = pairs = 0
    for text in texts:
        if count >= limit:
            break
        found = tokens(text)[: limit - count]
        count += len(found)
        pairs += max(0, len(found) - 1)
        ones.update(found)
        twos.update(pairwise(found))
    return ((len(ones) / count, len(twos) / pairs) if pairs else None), count


def self_similarity(texts: Sequence[str]) -> float | None:
    """Mean cosine (TF-IDF) of a text and the other one most like it; None for fewer than two texts with words."""
    fitted = tfidf(texts) if len(texts) > 1 else None
    if fitted is None:
        return None
    likeness = np.asarray((fitted[1] @ fitted[1].T).toarray())
    np.fill_diagonal(likeness, 0)
    return float(likeness.max(axis=1).mean())


def flags(found: Diversity) -> list[Flag]:
    """Whether prompts repeat, or rows are made by one pattern."""
    raised = []
    if found.distinct_prompts is not None and found.distinct_prompts < LEAST_PROMPTS:
        raised.append(
            _flag(
                Said(
                    en=f"Only {found.distinct_prompts:.0%} of the prompts are distinct; at least {LEAST_PROMPTS:.0%} "
                    "is wanted.",
                    zh=f"只有 {found.distinct_prompts:.0%} 的问题互不相同；应不低于 {LEAST_PROMPTS:.0%}。",
                ),
                Said(
                    en="Remove repeated rows (nacre data clean --steps duplicates), and look at prompts with several "
                    "answers: they teach a model to waver.",
                    zh="请去除重复行（nacre data clean --steps duplicates），"
                    "并检查同一问题的不同答案：它们会让模型摇摆。",
                ),
            )
        )
    if found.self_similarity is not None and found.self_similarity > MOST_SIMILAR:
        raised.append(
            _flag(
                Said(
                    en=f"A row and the one most like it share nearly all words (mean cosine {found.self_similarity:.2f}"
                    f"; above {MOST_SIMILAR} is flagged).",
                    zh=f"每行与最相近的另一行用词几乎相同（平均余弦 {found.self_similarity:.2f}；"
                    f"高于 {MOST_SIMILAR} 即提示）。",
                ),
                Said(
                    en="The rows seem made from few templates: vary how things are asked, or the model learns the "
                    "template.",
                    zh="这些数据似乎出自少数模板：请变换问法，否则模型学到的是模板。",
                ),
            )
        )
    return raised


def _flag(found: Said, advice: Said) -> Flag:
    return Flag(measure="diversity", level="flag", found=found, advice=advice)
