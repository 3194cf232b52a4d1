"""Protections against forgetting: one small class in one file each, listed here by name."""

from nacre.base.plugins import Table

PROTECTIONS = Table(
    "protection",
    {
        "distill": "nacre.train.protect.distill:Distill",
        "ewc": "nacre.train.protect.ewc:Ewc",
        "l2": "nacre.train.protect.l2:L2",
        "replay": "nacre.train.protect.replay:Replay",
    },
)
