"""Whether records and evidence are still those that the history vouches for: versions, verdicts, and their reports.

The event `registered` carries a hash of the version's record, `judged` one of the verdict's and of every report that
it may rest on. Texts that `forgetting` may take out later are left out of these hashes. Events of an older nacre carry
fewer of them; then the artifact and the snapshot are compared, or nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa

from nacre.base.hashing import content_hash, sha256_text
from nacre.records import Event, Report, Verdict, Version
from nacre.registry.database import Database
from nacre.registry.tables import event, report, verdict, version

_KINDS = ("registered", "judged", "forgotten")
_DROPPED = ("original", "original_base64")
_FLIP = ("prompt", "answer_before", "answer_after")


@dataclass(frozen=True)
class Fault:
    """What does not fit: the thing, what is wrong, and the versions it touches."""

    what: str
    fault: str
    versions: tuple[int, ...]


class Evidence:
    """What the tables hold, compared with what the history says they held."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def readable(self) -> list[Version]:
        """Every version whose record can be read, oldest first."""
        with self._database.read() as connection:
            texts = connection.execute(sa.select(version.c.record).order_by(version.c.number)).scalars().all()
        return [found for text in texts if (found := _version(text)) is not None]

    def faults(self) -> tuple[list[Fault], int]:
        """What was changed, removed or damaged, and how many records were looked at."""
        with self._database.read() as connection:
            told = list(_events(connection))
            versions = connection.execute(sa.select(version).order_by(version.c.number)).all()
            verdicts = connection.execute(sa.select(verdict).order_by(verdict.c.id)).all()
            reports = {row.key: row for row in connection.execute(sa.select(report)).all()}
        forgot = {
            file["sha256"]: one.id for one in told if one.kind == "forgotten" for file in one.detail.get("files", ())
        }
        last_forgotten = max(forgot.values(), default=0)
        found = [
            *_versions({row.number: row for row in versions}, told, last_forgotten),
            *_verdicts(verdicts, told, last_forgotten),
            *_reports(reports, told, forgot),
        ]
        return found, len(versions) + len(verdicts) + len(reports)


def seal_version(text: str) -> str:
    """Hash of a version's stored record, without the texts of rows that could not be used."""
    record = orjson.loads(text)
    return content_hash(record | {"snapshot": _plain_snapshot(record["snapshot"])})


def seal_verdict(text: str) -> str:
    """Hash of a verdict's stored record, without the texts of single rows."""
    record = orjson.loads(text)
    tasks = [
        one | {"flips": [flip | dict.fromkeys(_FLIP, "") for flip in one.get("flips", ())]} for one in record["tasks"]
    ]
    return content_hash(record | {"tasks": tasks})


def seal_reports(connection: sa.Connection, weights: tuple[str, ...]) -> list[dict[str, str]]:
    """Key, dev rows and hash of each report on some weights, for the event `judged`."""
    query = sa.select(report.c.key, report.c.record).where(report.c.weights.in_(weights)).order_by(report.c.key)
    return [
        {"key": row.key, "dev": orjson.loads(row.record)["dev"], "sha256": sha256_text(row.record)}
        for row in connection.execute(query)
    ]


def _plain_snapshot(snapshot: dict[str, Any]) -> dict[str, Any]:
    return snapshot | {"dropped": [one | dict.fromkeys(_DROPPED, "") for one in snapshot.get("dropped", ())]}


def _events(connection: sa.Connection) -> Iterator[Event]:
    """The events that vouch for something; damaged ones are the chain's fault, not the evidence's."""
    wanted = sa.or_(event.c.kind.in_(_KINDS), event.c.kind.is_(None))
    for text in connection.execute(sa.select(event.c.record).where(wanted).order_by(event.c.id)).scalars():
        try:
            found = Event.from_json(text)
        except ValueError:
            continue
        if found.kind in _KINDS:
            yield found


def _version(text: str) -> Version | None:
    try:
        return Version.from_json(text)
    except ValueError:
        return None


def _versions(rows: dict[int, Any], told: list[Event], last_forgotten: int) -> Iterator[Fault]:
    registered = {one.detail["version"]: one for one in told if one.kind == "registered"}
    for number in sorted(rows.keys() | registered.keys()):
        row, one = rows.get(number), registered.get(number)
        fault = "it is not in the ledger any more" if row is None else _version_fault(row, one, last_forgotten)
        if fault:
            yield Fault(f"version {number}: record", fault, (number,))


def _version_fault(row: Any, one: Event | None, last_forgotten: int) -> str:
    found = _version(row.record)
    if found is None:
        return "its record cannot be read; restore the ledger from a backup"
    if (found.number, found.artifact) != (row.number, row.artifact):
        return "its record is not about this version"
    if one is None:
        return "the history does not know it"
    detail = one.detail
    same = detail.get("artifact", found.artifact) == found.artifact
    if "record" in detail:
        same = same and seal_version(row.record) == detail["record"]
    elif "snapshot" in detail and one.id > last_forgotten:
        same = same and content_hash(orjson.loads(row.record)["snapshot"]) == detail["snapshot"]
    return "" if same else "its record was changed since it was registered; restore the ledger from a backup"


def _verdicts(rows: Any, told: list[Event], last_forgotten: int) -> Iterator[Fault]:
    """The verdicts of each version, newest first, against the events; the oldest may be from before there were any."""
    judged: dict[int, list[Event]] = {}
    for one in told:
        if one.kind == "judged":
            judged.setdefault(one.detail["version"], []).append(one)
    held: dict[int, list[Any]] = {}
    for row in rows:
        held.setdefault(row.version, []).append(row)
    for number in sorted(judged.keys() | held.keys()):
        mine, events = held.get(number, []), judged.get(number, [])
        if len(mine) < len(events):
            yield Fault(f"verdicts on version {number}", f"{len(events) - len(mine)} are missing", (number,))
            continue
        unvouched = len(mine) - len(events)
        for place, row in enumerate(mine):
            fault = _verdict_fault(row, events[place - unvouched] if place >= unvouched else None, last_forgotten)
            if fault:
                yield Fault(f"verdict {place + 1} on version {number}", fault, (number,))


def _verdict_fault(row: Any, one: Event | None, last_forgotten: int) -> str:
    try:
        found = Verdict.from_json(row.record)
    except ValueError:
        return "its record cannot be read; restore the ledger from a backup"
    if one is None:
        return ""
    detail = one.detail
    same = (detail["outcome"], detail.get("against")) == (found.outcome, row.against)
    if "record" in detail:
        same = same and seal_verdict(row.record) == detail["record"]
    if one.id > last_forgotten:
        same = same and sha256_text(row.record) == detail["verdict"]
    return "" if same else "it was changed since the gate gave it; restore the ledger from a backup"


def _reports(rows: dict[str, Any], told: list[Event], forgot: dict[str, int]) -> Iterator[Fault]:
    sealed: dict[str, tuple[str, str, tuple[int, ...], int]] = {}
    for one in told:
        for entry in one.detail.get("reports", ()) if one.kind == "judged" else ():
            sealed[entry["key"]] = (entry["sha256"], entry["dev"], (one.detail["version"],), one.id)
    for key, row in rows.items():
        fault = _report_fault(key, row)
        if fault or (key in sealed and sha256_text(row.record) != sealed[key][0]):
            versions = sealed[key][2] if key in sealed else ()
            yield Fault(f"report on {row.task} {key[:12]}", fault or "it was changed since the gate read it", versions)
    for key in sorted(sealed.keys() - rows.keys()):
        _, dev, versions, number = sealed[key]
        if forgot.get(dev, 0) < number:
            yield Fault(f"report {key[:12]}", "a verdict rests on it, and it is missing", versions)


def _report_fault(key: str, row: Any) -> str:
    try:
        found = Report.from_json(row.record)
    except ValueError:
        return "it cannot be read; restore the ledger from a backup"
    fits = (found.key, found.weights, found.task) == (key, row.weights, row.task)
    return "" if fits else "it is not the report that it is filed as"
