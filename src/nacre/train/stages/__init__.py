"""Stages: what a row teaches and the trainer that learns from it, listed here by name."""

from nacre.base.plugins import Table

STAGES = Table(
    "stage",
    {
        "pt": "nacre.train.stages.supervised:Supervised",
        "sft": "nacre.train.stages.supervised:Supervised",
        "rm": "nacre.train.stages.reward:Reward",
        "dpo": "nacre.train.stages.pairs:Pairs",
        "kto": "nacre.train.stages.judged:Judged",
        "clip": "nacre.train.stages.align:Contrastive",
    },
)
