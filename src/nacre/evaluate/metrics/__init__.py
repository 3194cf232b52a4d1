"""Metrics: one file each, and one line in this table."""

from nacre.base.plugins import Table

METRICS = Table(
    "metric",
    {
        "exact_match": "nacre.evaluate.metrics.exact_match:ExactMatch",
        "token_f1": "nacre.evaluate.metrics.token_f1:TokenF1",
        "rouge_l": "nacre.evaluate.metrics.rouge_l:RougeL",
        "bleu": "nacre.evaluate.metrics.bleu:Bleu",
        "distinct_1": "nacre.evaluate.metrics.distinct:Distinct1",
        "distinct_2": "nacre.evaluate.metrics.distinct:Distinct2",
        "perplexity": "nacre.evaluate.metrics.perplexity:Perplexity",
        "likelihood": "nacre.evaluate.metrics.perplexity:Likelihood",
        "preference_accuracy": "nacre.evaluate.metrics.preference_accuracy:PreferenceAccuracy",
        "judged_likelihood": "nacre.evaluate.metrics.judged_likelihood:JudgedLikelihood",
    },
)
