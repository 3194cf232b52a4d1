"""Floor 1: what the stages hand each other, on disk. Frozen, versioned, with a content hash; no torch."""

from nacre.records.base import Record
from nacre.records.combination import Combined, Combining
from nacre.records.compression import Compressed, Compressing, Weighed
from nacre.records.event import Event
from nacre.records.example import Example, Message, Origin
from nacre.records.federated import Federated, Federating
from nacre.records.feedback import ChatTurn, Feedback, FeedbackKind, FeedbackStatus, Interaction
from nacre.records.manifest import Manifest
from nacre.records.recipe import Decoding, Keep, Recipe, TaskSettings, Train
from nacre.records.release import Release, Rollout
from nacre.records.report import Report
from nacre.records.retention import Retention
from nacre.records.snapshot import Dropped, RowsFile, Snapshot
from nacre.records.tune import Tune
from nacre.records.verdict import Flip, RuleVerdict, TaskVerdict, Verdict
from nacre.records.version import Energy, Environment, Lineage, Version
from nacre.records.weights import Weights

__all__ = [
    "ChatTurn",
    "Combined",
    "Combining",
    "Compressed",
    "Compressing",
    "Decoding",
    "Dropped",
    "Energy",
    "Environment",
    "Event",
    "Example",
    "Federated",
    "Federating",
    "Feedback",
    "FeedbackKind",
    "FeedbackStatus",
    "Flip",
    "Interaction",
    "Keep",
    "Lineage",
    "Manifest",
    "Message",
    "Origin",
    "Recipe",
    "Record",
    "Release",
    "Report",
    "Retention",
    "Rollout",
    "RowsFile",
    "RuleVerdict",
    "Snapshot",
    "TaskSettings",
    "TaskVerdict",
    "Train",
    "Tune",
    "Verdict",
    "Version",
    "Weighed",
    "Weights",
]
