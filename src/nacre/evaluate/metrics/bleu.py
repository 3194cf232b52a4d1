"""BLEU."""

from sacrebleu.metrics import BLEU

from nacre.evaluate.metrics.metric import Metric, Scored
from nacre.evaluate.metrics.words import han, mostly, unspaced


class Bleu(Metric):
    """BLEU (Papineni et al. 2002) by sacrebleu, divided by 100 so that it lies in [0, 1].

    Per example it is sentence BLEU with effective order, so that an answer of fewer than four tokens can
    score; the total is corpus BLEU, equal to ``sacrebleu.corpus_bleu``.
    """

    definition = "sacrebleu / 100: corpus BLEU as the total, sentence BLEU (effective order) per example"

    def measure(self, scored: Scored) -> list[float]:
        """Sentence BLEU / 100 per row; 1 where both texts are empty."""
        bleu = BLEU(tokenize=_tokenizer(scored), effective_order=True)
        return [
            # an exact hit comes out a rounding error above 100
            min(1.0, bleu.sentence_score(answer, [reference]).score / 100) if answer or reference else 1.0
            for answer, reference in zip(scored.answers, scored.references, strict=True)
        ]

    def total(self, scored: Scored) -> float:
        """Corpus BLEU / 100, with sacrebleu's default smoothing."""
        # force: answers that look tokenised are what the model said; sacrebleu would only warn
        bleu = BLEU(tokenize=_tokenizer(scored), force=True)
        return min(1.0, float(bleu.corpus_score(list(scored.answers), [list(scored.references)]).score) / 100)

    def note(self, scored: Scored) -> str:
        """Which of sacrebleu's tokenizers was taken."""
        name = _tokenizer(scored)
        why = {
            "zh": "references hold Chinese characters",
            "char": "references are in a script without spaces that no other one splits",
            "13a": "no reference is in a script without spaces",
        }
        return f"bleu: sacrebleu's tokenizer '{name}', because {why[name]}"


def _tokenizer(scored: Scored) -> str:
    """One for the whole task, so that its rows compare; 13a would leave a Chinese row one single word.

    `zh` splits Chinese characters and treats other words as 13a does. It splits neither Thai nor kana.
    """
    references = scored.task_references
    if any(mostly(lambda letter: unspaced(letter) and not han(letter), reference) for reference in references):
        return "char"
    return "zh" if any(han(letter) for reference in references for letter in reference) else "13a"
