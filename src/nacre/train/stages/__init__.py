"""Stages: what a row teaches and the trainer that learns from it, listed here by name."""

from nacre.base.plugins import Table

STAGES = Table(
    "stage",
    {
        "pt": "nacre.train.stages.supervised:Supervised",
        "sft": "nacre.train.stages.supervised:Supervised",
    },
)
