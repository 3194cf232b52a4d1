"""Floor 1: what the stages hand each other, on disk. Frozen, versioned, with a content hash; no torch."""

from nacre.records.base import Record
from nacre.records.event import Event
from nacre.records.example import Example, Message, Origin
from nacre.records.feedback import ChatTurn, Feedback, FeedbackKind, FeedbackStatus, Interaction
from nacre.records.manifest import Lineage, Manifest
from nacre.records.recipe import Decoding, Keep, Recipe, TaskSettings, Train
from nacre.records.report import Report
from nacre.records.snapshot import Dropped, RowsFile, Snapshot
from nacre.records.tune import Tune
from nacre.records.verdict import TaskVerdict, Verdict
from nacre.records.version import Environment, Version
from nacre.records.weights import Weights

__all__ = [
    "ChatTurn",
    "Decoding",
    "Dropped",
    "Environment",
    "Event",
    "Example",
    "Feedback",
    "FeedbackKind",
    "FeedbackStatus",
    "Interaction",
    "Keep",
    "Lineage",
    "Manifest",
    "Message",
    "Origin",
    "Recipe",
    "Record",
    "Report",
    "RowsFile",
    "Snapshot",
    "TaskSettings",
    "TaskVerdict",
    "Train",
    "Tune",
    "Verdict",
    "Version",
    "Weights",
]
