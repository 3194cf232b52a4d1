"""Projects of a Label Studio server: made, filled, and read."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

from nacre.base.errors import InputError, NacreError
from nacre.data.annotate.client import Client
from nacre.data.annotate.questions import OWN, Task

BATCH = 500  # tasks in one request
_PAGE = 100
_TITLE_CHARS = range(3, 51)  # Label Studio's own limits


@dataclass(frozen=True)
class Project:
    """One project.

    Attributes:
        number, title: as Label Studio has them.
        config: its labelling configuration, XML.
        url: the page where people work on it.
        each: how many people are to answer each task.
        made: whether it was made just now.
        notes: what of a request does not hold for it.
    """

    number: int
    title: str
    config: str
    url: str
    each: int = 1
    made: bool = False
    notes: tuple[str, ...] = ()


@dataclass
class Pushed:
    """What came of `push`: tasks added, known before, and rows that cannot be asked about, by reason."""

    project: Project
    added: int = 0
    known: int = 0
    left: Counter[str] = field(default_factory=Counter)


def find_project(client: Client, name: str) -> Project | None:
    """The project of this title, or else of this number; None where there is neither.

    Raises:
        InputError: several have the title, or the server refuses; NacreError: it does not answer.
    """
    same = [one for one in _pages(client, "/api/projects/", "results", "count", title=name) if one["title"] == name]
    if len(same) > 1:
        numbers = ", ".join(str(one["id"]) for one in same)
        raise InputError(f"{len(same)} projects are called '{name}'", where=client.shown, fix=f"name one: {numbers}")
    if not same and name.isascii() and name.isdigit():
        same = [one for one in _pages(client, "/api/projects/", "results", "count", ids=name) if one["id"] == int(name)]
    return _project(client, same[0]) if same else None


def the_project(client: Client, name: str) -> Project:
    """The project of this title or number.

    Raises:
        InputError: there is none.
    """
    found = find_project(client, name)
    if found is None:
        fix = "nacre data annotate push makes one; else take the title or number that Label Studio shows"
        raise InputError(f"there is no project '{name}'", where=client.shown, fix=fix)
    return found


def open_project(client: Client, title: str, config: str, *, people: int = 1) -> Project:
    """The project of this title, made where there is none; `people` are to answer each task.

    Raises:
        InputError: a project of that title asks something else, or the title is too short or too long.
    """
    found = find_project(client, title)
    if found is not None:
        if _canonical(found.config) != _canonical(config):
            fix = "name another project with --project, or ask what this one asks"
            raise InputError("the project asks another question", where=f"{client.shown}, '{title}'", fix=fix)
        note = f"the project was there, and asks {found.each} people about each row, which stays"
        return found if found.each == people else replace(found, notes=(note,))
    if len(title) not in _TITLE_CHARS or title != title.strip():
        fix = f"use {_TITLE_CHARS[0]} to {_TITLE_CHARS[-1]} characters"
        raise InputError("this cannot be a project's title", where=f"--project '{title}'", fix=fix)
    body = {"title": title, "label_config": config, "maximum_annotations": people}
    return _project(client, client.post("/api/projects/", body), made=True)


def push(client: Client, project: Project, tasks: Sequence[Task]) -> Pushed:
    """Import the tasks that the project does not hold yet, known by the id in ``data.nacre``.

    Raises:
        InputError, NacreError: see `Client.get`. Batches that have arrived stay; the next call sends the others.
    """
    held = {number for task in _tasks(client, project) if (number := own_id(task))}
    new = [task for task in tasks if own_id(task) not in held]
    done = Pushed(project, known=len(tasks) - len(new))
    for start in range(0, len(new), BATCH):
        batch = new[start : start + BATCH]
        found = client.post(f"/api/projects/{project.number}/import", batch)
        count = found.get("task_count", len(batch)) if isinstance(found, dict) else 0
        if count != len(batch):
            fix = "run the command again: what has arrived is not sent twice"
            raise NacreError(f"Label Studio took {count} of {len(batch)} tasks", where=project.url, fix=fix)
        done.added += len(batch)
    return done


def pull(client: Client, project: Project, file: Path) -> tuple[int, int]:
    """Write the project's JSON export, all tasks, byte for byte; returns how many tasks, and how many with an answer.

    Raises:
        InputError, NacreError: see `Client.get`; the old file is untouched.
    """
    query: dict[str, str | int] = {"exportType": "JSON", "download_all_tasks": "true"}
    found = client.download(f"/api/projects/{project.number}/export", file, **query)
    return len(found), sum(bool(task.get("annotations")) for task in found)


def people(client: Client) -> dict[str, str]:
    """The e-mail address of everybody in the organisation, by their number as exports have it."""
    return {str(one["id"]): str(one["email"]) for one in client.get("/api/users/")}


def own_id(task: Task) -> str:
    """The id that a task got here; empty for one that came from elsewhere."""
    data = task.get("data")
    own = data.get(OWN) if isinstance(data, dict) else None
    return str(own.get("id", "")) if isinstance(own, dict) else ""


def _tasks(client: Client, project: Project) -> Iterator[Task]:
    return _pages(client, "/api/tasks/", "tasks", "total", project=project.number, resolve_uri="false")


def _pages(client: Client, path: str, key: str, total: str, **query: str | int) -> Iterator[dict[str, Any]]:
    """Everything that a paged list has. Its links to the next page are not used: they may name another host."""
    page, seen = 1, 0
    while True:
        found = client.get(path, page=page, page_size=_PAGE, **query)
        if not isinstance(found, dict) or not isinstance(found.get(key), list) or total not in found:
            fix = "check that --url is a Label Studio server, 1.20 or newer"
            raise InputError(f"the answer has no list '{key}'", where=f"{client.shown}{path}", fix=fix)
        yield from found[key]
        seen, page = seen + len(found[key]), page + 1
        if not found[key] or seen >= found[total]:
            return


def _project(client: Client, found: dict[str, Any], *, made: bool = False) -> Project:
    number, each = int(found["id"]), int(found.get("maximum_annotations") or 1)
    return Project(number, found["title"], found["label_config"], f"{client.url}/projects/{number}/data", each, made)


def _canonical(config: str) -> str:
    """The configuration without what its writing leaves open."""
    try:
        return Xml.canonicalize(config, strip_text=True)
    except Xml.ParseError:
        return config
