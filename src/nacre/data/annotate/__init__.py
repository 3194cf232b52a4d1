"""Rows out to people in Label Studio, and their answers in."""

from nacre.data.annotate.answers import Item, read_export
from nacre.data.annotate.client import Client, read_token
from nacre.data.annotate.projects import Project, Pushed, find_project, open_project, people, pull, push
from nacre.data.annotate.questions import QUESTIONS, config, tasks_of

__all__ = [
    "QUESTIONS",
    "Client",
    "Item",
    "Project",
    "Pushed",
    "config",
    "find_project",
    "open_project",
    "people",
    "pull",
    "push",
    "read_export",
    "read_token",
    "tasks_of",
]
