"""The ledger's tables. Columns are what is searched; the whole record lies beside them as canonical JSON."""

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, MetaData, String, Table, Text

SCHEMA = 4

metadata = MetaData()

meta = Table(
    "nacre_meta",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", String(64), nullable=False),
)

artifact = Table(
    "artifact",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("needs", String(64), nullable=False),
    Column("created", String(32), nullable=False),
)

version = Table(
    "version",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("artifact", String(64), ForeignKey("artifact.sha256"), nullable=False),
    Column("data_hash", String(160), nullable=False, index=True),
    Column("created", String(32), nullable=False),
    Column("record", Text, nullable=False),
)

# A row stays when its slot is emptied, so that the greatest generation never falls.
slot = Table(
    "slot",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("version", Integer, ForeignKey("version.number")),
    Column("generation", Integer, nullable=False),
)

event = Table(
    "event",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(32), index=True),  # empty where a nacre of schema 1, which had the ledger open, wrote it
    Column("hash", String(64), nullable=False),
    Column("record", Text, nullable=False),
)

report = Table(
    "report",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("weights", String(64), nullable=False, index=True),
    Column("task", Text, nullable=False, index=True),
    Column("created", String(32), nullable=False),
    Column("record", Text, nullable=False),
)

verdict = Table(
    "verdict",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("version", Integer, ForeignKey("version.number"), nullable=False, index=True),
    Column("against", Integer, ForeignKey("version.number")),
    Column("created", String(32), nullable=False),
    Column("record", Text, nullable=False),
)

interaction = Table(
    "interaction",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("time", String(32), nullable=False, index=True),
    Column("version", Integer, nullable=False, index=True),
    Column("arm", String(16), nullable=False),
    Column("session", Text, nullable=False, index=True),
    Column("prompt", String(64), nullable=False, server_default="", index=True),  # hash of what was asked
    Column("record", Text, nullable=False),
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("time", String(32), nullable=False),
    Column("interaction", String(128), ForeignKey("interaction.id"), nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("status", String(16), nullable=False, index=True),
    Column("person", String(64), nullable=False, server_default="", index=True),
    Column("why", Text, nullable=False, server_default=""),  # it is quarantined or rejected
    Column("increment", Text, nullable=False, server_default="", index=True),  # that it went into
    Column("record", Text, nullable=False),
)

# Programs outside that are told what happened (the MLflow mirror, webhooks): how far each has followed the events.
# The history is the outbox: nothing is written twice, and a follower that joins late is told everything.
follower = Table(
    "follower",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("event", Integer, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Column("parked", Text, nullable=False),  # JSON: number of each event that was given up, and what was wrong
    Column("updated", String(32), nullable=False),
)

# One row a rollout of one version; the history of its states lies in the events.
release = Table(
    "release",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("version", Integer, ForeignKey("version.number"), nullable=False, index=True),
    Column("state", String(16), nullable=False, index=True),
    Column("created", String(32), nullable=False),
    Column("record", Text, nullable=False),
)

# What waits for a person's judgement, and what that person said.
review = Table(
    "review",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("queue", String(64), nullable=False, index=True),
    Column("status", String(16), nullable=False, index=True),
    Column("created", String(32), nullable=False),
    Column("record", Text, nullable=False),
)

# Keys to the API: hashes of their secrets, of the present one and of the one before it.
key = Table(
    "key",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("hash", String(64), nullable=False),
    Column("old_hash", String(64), nullable=False),
    Column("created", String(32), nullable=False),
    Column("record", Text, nullable=False),
)

# What each key has used in a day (UTC). No foreign key: keys of the configuration are counted too.
key_use = Table(
    "key_use",
    metadata,
    Column("key", String(16), primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
)
