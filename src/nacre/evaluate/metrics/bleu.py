"""BLEU."""

from sacrebleu.metrics import BLEU

from nacre.evaluate.metrics.metric import Metric, Scored
from nacre.evaluate.metrics.words import mostly_chinese


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
        script = "mostly Chinese" if name == "zh" else "not mostly Chinese"
        return f"bleu: sacrebleu's tokenizer '{name}', because the references are {script}"


def _tokenizer(scored: Scored) -> str:
    return "zh" if mostly_chinese(list(scored.task_references)) else "13a"
