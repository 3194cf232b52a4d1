"""Protections against forgetting: one small class in one file each, listed here by name."""

from nacre.base.plugins import Table

PROTECTIONS = Table(
    "protection",
    {
        "agem": "nacre.train.protect.agem:Agem",
        "average": "nacre.train.protect.average:Average",
        "block-expansion": "nacre.train.protect.block_expansion:BlockExpansion",
        "der": "nacre.train.protect.der:Der",
        "distill": "nacre.train.protect.distill:Distill",
        "ewc": "nacre.train.protect.ewc:Ewc",
        "freeze": "nacre.train.protect.freeze:Freeze",
        "general": "nacre.train.protect.general:General",
        "intruder": "nacre.train.protect.intruder:Intruder",
        "l2": "nacre.train.protect.l2:L2",
        "lm": "nacre.train.protect.lm:Lm",
        "merge": "nacre.train.protect.merge:Merge",
        "mofo": "nacre.train.protect.mofo:Mofo",
        "orthogonal": "nacre.train.protect.orthogonal:Orthogonal",
        "osf": "nacre.train.protect.osf:Osf",
        "rehearse": "nacre.train.protect.rehearse:Rehearse",
        "replay": "nacre.train.protect.replay:Replay",
        "sdft": "nacre.train.protect.sdft:Sdft",
        "separate": "nacre.train.protect.separate:Separate",
        "si": "nacre.train.protect.si:Si",
    },
)
