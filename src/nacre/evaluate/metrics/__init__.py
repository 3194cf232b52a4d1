"""Metrics: one file each, and one line in this table."""

from nacre.base.plugins import Table

METRICS = Table(
    "metric",
    {
        "exact_match": "nacre.evaluate.metrics.exact_match:ExactMatch",
        "token_f1": "nacre.evaluate.metrics.token_f1:TokenF1",
        "rouge_l": "nacre.evaluate.metrics.rouge_l:RougeL",
        "bleu": "nacre.evaluate.metrics.bleu:Bleu",
        "chrf": "nacre.evaluate.metrics.chrf:ChrF",
        "choice_accuracy": "nacre.evaluate.metrics.choice_accuracy:ChoiceAccuracy",
        "distinct_1": "nacre.evaluate.metrics.distinct:Distinct1",
        "distinct_2": "nacre.evaluate.metrics.distinct:Distinct2",
        "perplexity": "nacre.evaluate.metrics.perplexity:Perplexity",
        "likelihood": "nacre.evaluate.metrics.perplexity:Likelihood",
        "length_characters": "nacre.evaluate.metrics.length:LengthCharacters",
        "length_tokens": "nacre.evaluate.metrics.length:LengthTokens",
        "refusal": "nacre.evaluate.metrics.refusal:Refusal",
        "preference_accuracy": "nacre.evaluate.metrics.preference_accuracy:PreferenceAccuracy",
        "judged_likelihood": "nacre.evaluate.metrics.judged_likelihood:JudgedLikelihood",
        "recall_at_1": "nacre.evaluate.metrics.recall:RecallAt1",
        "recall_at_5": "nacre.evaluate.metrics.recall:RecallAt5",
        "judge": "nacre.evaluate.metrics.opinion:Judge",
        "judge_pairwise": "nacre.evaluate.metrics.opinion:JudgePairwise",
        "human": "nacre.evaluate.metrics.opinion:Human",
    },
)
