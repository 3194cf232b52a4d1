"""`nacre serve` and `nacre harvest` over a workspace: a promotion without a restart, and feedback that is learned."""

import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest
from traffic_kit import make_space

from nacre.base.clock import now
from nacre.base.errors import InputError
from nacre.cycle.rows import harvest as harvesting
from nacre.cycle.workspace import Workspace
from nacre.records import Feedback, Interaction
from nacre.records.feedback import ChatTurn
from nacre.registry.ledger import Ledger
from workspace_kit import Place, assert_clear, start

QUESTION = "feed old long cat"
SWITCH_S = 1.0


@contextmanager
def serving(place: Place, *words: str) -> Iterator[str]:
    """`nacre serve` in a process of its own; yields the URL; SIGTERM must end it well."""
    process: subprocess.Popen[str] = start("serve", "--port", "0", *words, cwd=place.root)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving at "), (line, process.communicate() if not line else "")
        yield line.split()[-1]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        assert process.returncode == 0
    finally:
        process.kill()


def answer(client: openai.OpenAI) -> openai.types.chat.ChatCompletion:
    return client.chat.completions.create(
        model="nacre", temperature=0, messages=[{"role": "user", "content": QUESTION}]
    )


def switched(client: openai.OpenAI, wanted: str) -> float:
    """Seconds until the server gives that answer."""
    began = time.monotonic()
    while answer(client).choices[0].message.content != wanted:
        assert time.monotonic() - began < 30, f"the answer never became {wanted!r}"
        time.sleep(0.02)
    return time.monotonic() - began


@pytest.mark.slow
def test_the_ring_closes(lived_in: Place) -> None:
    with (
        serving(lived_in, "--api-key", "open-sesame") as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="open-sesame", max_retries=0) as client,
    ):
        with pytest.raises(openai.AuthenticationError), openai.OpenAI(base_url=f"{url}/v1", api_key="x") as stranger:
            answer(stranger)
        names = ["nacre", "nacre:champion", "nacre:previous-1", "nacre@1", "nacre@2"]
        began = time.monotonic()
        while [model.id for model in client.models.list()] != names:  # the champion before is loaded behind it
            assert time.monotonic() - began < 30, client.models.list()
            time.sleep(0.02)
        first = answer(client)
        assert first.choices[0].message.content == "hay"
        streamed = client.chat.completions.create(
            model="nacre", temperature=0, stream=True, messages=[{"role": "user", "content": QUESTION}]
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices) == "hay"

        said = {"response_id": first.id, "correction": "corn"}
        client.post("/feedback", body=said, cast_to=object)
        harvested = lived_in.json("harvest")
        assert (harvested["increment"], harvested["train"], harvested["dev"]) == ("feedback_1", 1, 0)
        assert_clear(lived_in.nacre("harvest"), "there is no feedback to learn from")

        lived_in.settings(keep={"max_drop": 1.0})  # one row cannot be learned without moving its neighbours
        learned = lived_in.json("evolve", "feedback_1")
        assert (learned["version"], learned["promoted"]) == (3, True)
        assert switched(client, "corn") < SWITCH_S
        lived_in.json("rollback")
        assert switched(client, "hay") < SWITCH_S
        lived_in.json("promote", 3)
        assert switched(client, "corn") < SWITCH_S


def test_a_taken_port_is_named_before_a_model_is_loaded(lived_in: Place) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        began = time.monotonic()
        assert_clear(lived_in.nacre("serve", "--port", port), "cannot listen", f"127.0.0.1:{port}", "--port", code=1)
        assert time.monotonic() - began < 10


def test_an_open_address_needs_a_key(lived_in: Place) -> None:
    assert_clear(lived_in.nacre("serve", "--host", "0.0.0.0", "--port", 0), "0.0.0.0", "--api-key")
    assert_clear(lived_in.nacre("serve", "--port", 70000), "port")


def test_feedback_becomes_an_increment_once(lived_in: Place) -> None:
    with Workspace.open(lived_in.root) as space:
        for place in range(24):
            asked = Interaction(
                id=f"chatcmpl-{place}",
                time=now(),
                version=2,
                arm="champion",
                messages=(ChatTurn(role="user", content=f"feed big {place}"),),
                answer="hay",
                finish="stop",
            )
            space.ledger.add_interactions([asked])
            kind = {"kind": "correction", "text": "corn"} if place % 2 else {"kind": "stars", "value": 5}
            space.ledger.add_feedback(Feedback.model_validate({"time": now(), "interaction": asked.id, **kind}))
    for name in ("base", "../elsewhere", ""):
        assert lived_in.nacre("harvest", "--name", name).code == 2
    found = lived_in.nacre("harvest", "--name", "from_users")
    assert found.code == 0, found
    assert re.search(r"from_users: \d+ rows to train, \d+ to prove it", found.out)
    assert "next: nacre evolve from_users" in found.out
    checked = lived_in.json("data", "check", "--dataset", "from_users")
    assert (checked["usable"], checked["dropped"]) == (24, 0)
    assert checked["dev"] >= 2
    assert_clear(lived_in.nacre("harvest"), "there is no feedback to learn from")
    assert lived_in.json("verify")["faults"] == []


@pytest.mark.parametrize("named", [None, "from_users"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_harvest_that_is_killed_neither_loses_nor_doubles_feedback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, named: str | None
) -> None:
    class Kill(BaseException):
        """What no handler catches."""

    real = Ledger.export_feedback

    def killed(ledger: Ledger, *words: object) -> None:
        if moment == "after":
            real(ledger, *words)
        raise Kill

    with make_space(tmp_path / "space") as space:
        say(space, range(12))
        monkeypatch.setattr(Ledger, "export_feedback", killed)
        with pytest.raises(Kill):
            harvesting.harvest(space, named)
        monkeypatch.setattr(Ledger, "export_feedback", real)
        name = named or "feedback_1"
        if moment == "before":
            assert harvesting.interrupted(space)
            found = harvesting.harvest(space, named)
            assert (found.name, found.train + found.dev) == (name, 12)
            assert "recorded now" in found.note
        with pytest.raises(InputError, match=r"there is no feedback to learn from"):
            harvesting.harvest(space)
        assert not harvesting.interrupted(space)
        say(space, range(12, 20))
        more = harvesting.harvest(space)
        assert more.train + more.dev == 8
        told = [event.detail["increment"] for event in space.ledger.events() if event.kind == "harvested"]
        assert told == [name, "feedback_2" if named is None else "feedback_1"]
        assert {said.status for said in space.ledger.feedback()} == {"exported"}


def test_a_harvest_that_is_killed_before_its_folder_is_there_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make_space(tmp_path / "space") as space:
        say(space, range(12))
        real = harvesting._write
        monkeypatch.setattr(harvesting, "_write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            harvesting.harvest(space)
        monkeypatch.setattr(harvesting, "_write", real)
        assert harvesting.interrupted(space)
        assert harvesting.harvest(space).name == "feedback_1"
        told = [event.detail["increment"] for event in space.ledger.events() if event.kind == "harvested"]
        assert told == ["feedback_1"]


def say(space: Workspace, numbers: range) -> None:
    for number in numbers:
        asked = Interaction(
            id=f"q{number}",
            time=now(),
            version=1,
            arm="champion",
            messages=(ChatTurn(role="user", content=f"question {number} about {number * 7}"),),
            answer="a",
            finish="stop",
        )
        space.ledger.add_interactions([asked])
        opinion = Feedback(time=now(), interaction=asked.id, kind="correction", text=f"right {number}")
        space.ledger.add_feedback(opinion)
