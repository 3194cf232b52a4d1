"""The ledger: versions, slots, history, evidence and feedback in a few tables. It decides what is live."""

from collections.abc import Sequence
from typing import Any, Self

import sqlalchemy as sa

from nacre.base.clock import now
from nacre.base.errors import InputError, NacreError, unknown
from nacre.records import Event, Feedback, FeedbackStatus, Interaction, Recipe, Report, Verdict, Version
from nacre.registry import conversations, events, evidence, releases, slots, usage
from nacre.registry.database import Database
from nacre.registry.drafts import Drafts
from nacre.registry.followers import Followers
from nacre.registry.forgetting import Forgetting
from nacre.registry.keeping import REGISTERED, Keeping, brought, refuse_collected
from nacre.registry.keys import Keys
from nacre.registry.reviews import Reviews
from nacre.registry.slots import Note, Slot
from nacre.registry.store import ArtifactStore
from nacre.registry.tables import artifact, report, verdict, version
from nacre.registry.weigh import folder_bytes, parameters, weights_hash


class Ledger:
    """One ledger and the artifact store it vouches for.

    Every write is one transaction: all of it is there after a crash, or nothing. Threads may share a
    ledger; each process opens its own.

    Args:
        url: any SQLAlchemy URL; SQLite and PostgreSQL are tested.
        store: where the artifacts lie; nothing becomes champion before its files were hashed again.

    Raises:
        InputError: the URL cannot be read.
        NacreError: the database cannot be reached, is damaged, or has a schema this program does not know.
    """

    def __init__(self, url: str, store: ArtifactStore) -> None:
        self.store = store
        self._database = Database(url)
        self.drafts = Drafts(self._database)
        self.followers = Followers(self._database)
        self.evidence = evidence.Evidence(self._database)
        self.forgetting = Forgetting(self._database)
        self.keeping = Keeping(self._database)
        self.keys = Keys(self._database)
        self.reviews = Reviews(self._database)
        self.usage = usage.Usage(self._database)
        self.releases = releases.Releases(self._database, self.verify_version)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back the database connections."""
        self._database.close()

    # versions

    def add_version(self, *, actor: str = "nacre", imported: dict[str, Any] | None = None, **fields: Any) -> Version:
        """Register a trained version under the next number.

        Args:
            actor: who registers it.
            imported: for one from an archive: what the event `imported` tells of it, in the same transaction.
            fields: of `Version`, without `number` and `created`.

        Raises:
            InputError: a parent is not in the ledger.
            NacreError: the artifact is not in the store.
        """
        folder = self.store.path(fields["artifact"])
        counted = {"size_bytes": folder_bytes(folder), "parameters": parameters(folder)}
        fields = fields | counted | {"weights": weights_hash(self.store.hashes(fields["artifact"]))}
        with self._database.write() as connection:
            number = (connection.execute(sa.select(sa.func.max(version.c.number))).scalar() or 0) + 1
            added = Version(**fields, number=number, created=now())
            for parent in added.parents:
                _version(connection, parent)
            known = connection.execute(sa.select(artifact.c.sha256).where(artifact.c.sha256 == added.artifact)).first()
            if known is None:
                row = {"sha256": added.artifact, "kind": added.kind, "needs": added.needs, "created": added.created}
                connection.execute(artifact.insert().values(row))
            connection.execute(
                version.insert().values(
                    number=number,
                    artifact=added.artifact,
                    data_hash=added.snapshot.data_hash,
                    created=added.created,
                    record=added.to_json(),
                )
            )
            detail = brought(added) | {"version": number, "parents": list(added.parents)}
            sealed = {"snapshot": added.snapshot.digest, "record": evidence.seal_version(added.to_json())}
            events.append(connection, REGISTERED, actor, detail | sealed)
            if imported is not None:
                events.append(connection, "imported", actor, {"version": number, **imported})
        return added

    def version(self, number: int) -> Version:
        """The version of that number.

        Raises:
            InputError: there is none; lists the known ones.
        """
        with self._database.read() as connection:
            return _version(connection, number)

    def versions(self) -> list[Version]:
        """Every version, oldest first."""
        with self._database.read() as connection:
            records = connection.execute(sa.select(version.c.record).order_by(version.c.number)).scalars()
            return [_read(text) for text in records]

    def same_training(
        self, data_hash: str, parent: int | None, recipe: Recipe, *, base_sha256: str = ""
    ) -> Version | None:
        """The latest version made from the same rows, the same parent and the same recipe, whose weights are kept.

        Args:
            data_hash: `Snapshot.data_hash` of the increment.
            parent: the version to train from; None for the base model.
            recipe: how it is trained.
            base_sha256: where given, the base model must be the same too.
        """
        query = sa.select(version.c.record).where(version.c.data_hash == data_hash).order_by(version.c.number.desc())
        parents = () if parent is None else (parent,)
        with self._database.read() as connection:
            found = [_read(text) for text in connection.execute(query).scalars()]
        gone, _ = self.keeping.collected()
        here = (one for one in found if not (one.artifact in gone or one.origin or one.federated))  # made elsewhere
        same = (one for one in here if one.parents == parents and one.recipe == recipe)
        return next((one for one in same if base_sha256 in ("", one.base_sha256)), None)

    # slots

    def slots(self) -> dict[str, Slot]:
        """The slots that are taken, by name."""
        with self._database.read() as connection:
            return slots.read(connection)

    def slot(self, name: str) -> Slot | None:
        """One slot, or None while it is empty.

        Raises:
            InputError: there is no slot of that name.
        """
        if name not in slots.NAMES:
            raise unknown("slot", name, slots.NAMES)
        return self.slots().get(name)

    def generation(self) -> int:
        """Rises with every move of any slot and never falls; cheap enough to ask five times a second."""
        with self._database.read() as connection:
            return slots.generation(connection)

    def promote(
        self,
        number: int,
        *,
        actor: str,
        why: str,
        expected: int | None = None,
        evidence: str = "",
        over_release: bool = False,
    ) -> Event:
        """Make a version champion. The old champion becomes previous-1, previous-1 becomes previous-2 and so on.

        Args:
            number: the version; it leaves the slot it stands in.
            actor: who decides.
            why: one sentence for the history.
            expected: the champion's generation the decision was based on (0: there was no champion);
                None promotes whatever the champion is now.
            evidence: digest of the verdict.
            over_release: end an active rollout, in the same transaction, instead of being refused.

        Raises:
            InputError: there is no such version, it is the champion already, or a rollout is active.
            ConflictError: the champion is not of the expected generation; nothing was written.
            NacreError: the artifact, or one it sits on, is missing or damaged; nothing was written.
        """
        self.verify_version(number)
        with self._database.write() as connection:
            return releases.promote(connection, number, expected, Note(actor, why, evidence), over=over_release)

    def rollback(self, *, to: int | None = None, actor: str, why: str) -> Event:
        """Take promotions back: the champion is again previous-1, or the version `to` of the last three.

        The version rolled back from (and those between it and `to`) leaves the slots, so that a second
        rollback goes further back and never to it. It stays in the ledger with its artifact, the event
        names it under `left`, and `promote` brings it back.

        Raises:
            InputError: there is no earlier champion, or `to` is none of the last three.
            ConflictError: the champion changed while the artifact was verified; nothing was written.
            NacreError: the artifact is missing or damaged; nothing was written.
        """
        taken = self.slots()
        target = slots.rollback_target(taken, to)
        self.verify_version(target)
        with self._database.write() as connection:
            return releases.rollback(connection, target, taken[slots.CHAMPION].generation, Note(actor, why))

    def place(self, name: str, number: int | None, *, actor: str, why: str) -> Event:
        """Put a version into the slot challenger or shadow, or empty it with None. Verifies as `promote`.

        Raises:
            InputError: no such version or slot, the version is or was lately champion, or a rollout is active.
        """
        if number is not None:
            self.verify_version(number)
        with self._database.write() as connection:
            releases.before_trial(connection)
            return slots.place(connection, name, number, Note(actor, why))

    def verify_version(self, number: int) -> None:
        """Hash the version's artifact again, and those it sits on.

        Raises:
            InputError: there is no such version.
            NacreError: an artifact is missing or damaged.
        """
        with self._database.read() as connection:
            found = _version(connection, number)
            refuse_collected(connection, number)
            rows = connection.execute(sa.select(artifact.c.sha256, artifact.c.needs)).all()
        needs = {row.sha256: row.needs for row in rows}
        sha = found.artifact
        while sha:
            try:
                self.store.verify(sha)
            except NacreError as error:
                raise NacreError(f"version {number}: {error.what}", where=error.where, fix=error.fix) from error
            sha = needs.get(sha, "")

    # history

    def record(self, kind: str, actor: str, detail: dict[str, Any]) -> Event:
        """Append an event of one's own to the history; `detail` is JSON."""
        if "slots" in detail:
            raise ValueError("only moves of slots may carry 'slots': verify_chain compares it with the slot table")
        with self._database.write() as connection:
            return events.append(connection, kind, actor, detail)

    def events(self, limit: int | None = None) -> list[Event]:
        """The last `limit` events, or all, oldest first."""
        with self._database.read() as connection:
            return events.latest(connection, limit)

    def verify_chain(self) -> int:
        """Check the whole history, and that it leads to the slots as they are; returns the number of events.

        Raises:
            NacreError: names the first event that was changed, removed or added.
        """
        with self._database.read() as connection:
            taken = slots.read(connection)
            slots.consistent(taken)
            releases.check(connection, taken)
            return events.verify(connection, {held.name: held.version for held in taken.values()})

    # evidence

    def put_report(self, added: Report) -> None:
        """Keep a report. Reports are made from immutable things: one that is there already stays."""
        key = added.key
        with self._database.write() as connection:
            if connection.execute(sa.select(report.c.key).where(report.c.key == key)).first() is None:
                row = {"key": key, "weights": added.weights, "task": added.task, "created": now()}
                connection.execute(report.insert().values(row | {"record": added.to_json()}))

    def get_report(self, key: str) -> Report | None:
        """The report of that key (see `report_key`), if there is one."""
        with self._database.read() as connection:
            text = connection.execute(sa.select(report.c.record).where(report.c.key == key)).scalar_one_or_none()
        return None if text is None else Report.from_json(text)

    def reports(self, weights: str | None = None, task: str | None = None, *, aside: bool = False) -> list[Report]:
        """Reports, oldest first, of some weights, of a task, or all; those of `Report.aside` only where asked for."""
        query = sa.select(report.c.record).order_by(report.c.created, report.c.key)
        if weights is not None:
            query = query.where(report.c.weights == weights)
        if task is not None:
            query = query.where(report.c.task == task)
        with self._database.read() as connection:
            found = [Report.from_json(text) for text in connection.execute(query).scalars()]
        return [one for one in found if aside or not one.aside]

    def put_verdict(self, number: int, against: int | None, added: Verdict, *, actor: str = "gate") -> None:
        """Keep what the gate found of a version, judged against another (None: against the base model).

        Raises:
            InputError: one of the versions is not in the ledger.
        """
        with self._database.write() as connection:
            judged = _version(connection, number)
            other = judged.base_sha256 if against is None else _version(connection, against).artifact
            row = {"version": number, "against": against, "created": now(), "record": added.to_json()}
            connection.execute(verdict.insert().values(row))
            told = {"version": number, "against": against, "outcome": added.outcome, "verdict": added.digest}
            reports = evidence.seal_reports(connection, (judged.artifact, other))
            sealed = {"record": evidence.seal_verdict(added.to_json()), "reports": reports}
            events.append(connection, "judged", actor, told | sealed)

    def verdict(self, number: int) -> Verdict | None:
        """The latest verdict on a version, if it was judged."""
        query = sa.select(verdict.c.record).where(verdict.c.version == number).order_by(verdict.c.id.desc()).limit(1)
        with self._database.read() as connection:
            text = connection.execute(query).scalar_one_or_none()
        return None if text is None else Verdict.from_json(text)

    def judged_against(self, number: int) -> int | None:
        """The version that the latest verdict compares `number` with; None: the base model, or it was never judged."""
        query = sa.select(verdict.c.against).where(verdict.c.version == number).order_by(verdict.c.id.desc()).limit(1)
        with self._database.read() as connection:
            return connection.execute(query).scalar_one_or_none()

    # serving

    def add_interactions(self, added: Sequence[Interaction]) -> None:
        """Store answered requests in one transaction, all or none.

        Raises:
            InputError: an id is stored already.
        """
        if added:
            with self._database.write() as connection:
                conversations.add_interactions(connection, added)

    def interaction(self, identity: str) -> Interaction | None:
        """The answered request of that id, if it is known."""
        with self._database.read() as connection:
            return conversations.find_interaction(connection, identity)

    def add_feedback(self, opinion: Feedback) -> int:
        """Store one opinion; returns the number it was given.

        Raises:
            InputError: the interaction is not known.
        """
        with self._database.write() as connection:
            return conversations.add_feedback(connection, opinion)

    def add_opinions(self, groups: Sequence[Sequence[Feedback]]) -> list[list[int] | InputError]:
        """Store groups of opinions in one transaction, see `nacre.registry.conversations.add_opinions`."""
        with self._database.write() as connection:
            return conversations.add_opinions(connection, groups)

    def feedback(self, status: FeedbackStatus | None = None) -> list[Feedback]:
        """Every opinion, or those of one status, oldest first."""
        with self._database.read() as connection:
            return conversations.list_feedback(connection, status)

    def export_feedback(self, ids: Sequence[int], kind: str, actor: str, detail: dict[str, Any]) -> Event:
        """Mark opinions as exported and append the event that tells of it, in one transaction.

        Raises:
            InputError: a number is not known; nothing was changed.
        """
        with self._database.write() as connection:
            conversations.mark_feedback(connection, ids, "exported", increment=detail.get("increment", ""))
            return events.append(connection, kind, actor, detail)

    def mark_feedback(self, ids: Sequence[int], status: FeedbackStatus, *, why: str = "") -> None:
        """Give opinions another status, and say why, all or none.

        Raises:
            InputError: a number is not known; nothing was changed.
        """
        with self._database.write() as connection:
            conversations.mark_feedback(connection, ids, status, why=why)


def _read(text: str, number: int | None = None) -> Version:
    try:
        return Version.from_json(text)
    except ValueError:
        which = "a version" if number is None else f"version {number}"
        fix = "see nacre verify, and restore the ledger from a backup"
        raise NacreError(f"the record of {which} cannot be read", where="ledger", fix=fix) from None


def _version(connection: sa.Connection, number: int) -> Version:
    text = connection.execute(sa.select(version.c.record).where(version.c.number == number)).scalar_one_or_none()
    if text is not None:
        return _read(text, number)
    known = connection.execute(sa.select(version.c.number).order_by(version.c.number)).scalars().all()
    raise InputError(
        f"there is no version {number}",
        where="ledger",
        fix=f"known: {', '.join(map(str, known))}"
        if known
        else "the ledger is empty: `nacre evolve base` makes version 1",
    )
