"""`nacre federate`: the version that parties make together, judged as every other one; and what of them is sent."""

import json
import shutil
import socket
import time
from pathlib import Path

import pytest

from federated_kit import backwards, vanishing
from nacre.cycle.increment.federate import Stage, federate
from nacre.cycle.workspace import Workspace
from nacre.records import Federating
from workspace_kit import Place, assert_clear, rows, start, write_increment, write_lines

pytest.importorskip("flwr", reason="needs nacre[federated]")

LORA = {"name": "lora", "rank": 8}


@pytest.fixture
def shared_out(lived_in: Place) -> Place:
    """A workspace with two skills learned, and a third to be learned together."""
    lived_in.settings(tune=LORA, protect="none", train={"learning_rate": 1e-2})
    write_increment(lived_in.dataset, "increment_2", "place")
    return lived_in


def test_parties_make_a_version_that_the_gate_judged(shared_out: Place) -> None:
    place = shared_out
    words = ("federate", "train", "increment_2", "--simulate", 2, "--rounds", 2, "--epochs", 6)
    found = place.nacre(*words, "--json").json
    assert (found["version"], found["parent"], found["trained"]) == (3, 2, True)
    assert found["verdict"] in ("pass", "fail", "undecided")
    assert found["tasks"].keys() == {"base", "increment_1", "increment_2"}
    assert found["tasks"]["increment_2"]["after"] > found["tasks"]["increment_2"]["before"] + 0.5
    told = found["federated"]
    assert (told["parties"], len(told["rounds"]), told["how"]["aggregation"]) == (2, 2, "trimmed-mean")
    assert all((one["asked"], one["counted"], one["refused"]) == (2, 2, {}) for one in told["rounds"])
    assert told["rounds"][1]["loss"] < told["rounds"][0]["loss"]
    shown = place.json("versions", "show", 3)
    assert (shown["kind"], shown["parents"], shown["federated"]["parties"]) == ("adapter", [2], 2)
    assert shown["needs"] == place.json("versions", "show", 2)["artifact"]
    assert "increment_2" in shown["scores"]
    assert place.nacre("verify").code == 0
    assert not any((place.root / ".nacre" / "runs").glob("*"))
    notes = place.json("report", 3)["notes"]["training"]
    assert any(note.startswith("2 parties, 2 of 2 rounds counted, trimmed-mean") for note in notes)
    again = place.json("reproduce", 3, code=3)
    assert "parties trained it together, each on rows that are not here" in again["reasons"]


def test_no_text_of_any_row_is_sent(shared_out: Place) -> None:
    given = (shared_out.dataset / "increment_2" / f"{split}.json" for split in ("train", "dev"))
    texts = [json.loads(line) for path in given for line in path.read_text().splitlines()]
    sent: list[bytes] = []
    with Workspace.open(shared_out.root) as space:
        how = Federating(rounds=1, simulated=2)
        found = federate(space, "increment_2", how, seats=Stage(tap=sent.append), promote="never")
    assert len(sent) == 4  # two parties, there and back
    assert found.federated.parties == 2
    whole = b"\n".join(sent)
    assert b"lora_A" in whole
    words = {word for row in texts for word in (*row["instruction"].split(), row["output"])} - {"old", "new"}
    assert len(words) > 10
    for word in words:
        assert f" {word}".encode() not in whole
        assert f"{word} ".encode() not in whole
    for row in texts:
        assert row["instruction"].encode() not in whole


def test_a_federation_goes_on_from_an_adapter_of_the_same_form_with_masks_and_noise(shared_out: Place) -> None:
    first = shared_out.nacre("federate", "train", "increment_2", "--simulate", 2, "--rounds", 1, "--json").json
    write_lines(shared_out.dataset / "increment_3" / "train.json", rows("paint", seed=3)[:40])
    words = ("federate", "train", "increment_3", "--from", first["version"], "--simulate", 3, "--rounds", 1)
    on = shared_out.nacre(*words, "--secure", "--clip", 0.5, "--noise", 0.1, "--promote", "never", "--json").json
    assert (on["parent"], on["version"]) == (3, 4)
    assert shared_out.json("versions", "show", 4)["needs"] == shared_out.json("versions", "show", 2)["artifact"]
    told = on["federated"]
    assert (told["how"]["secure"], told["how"]["aggregation"], told["how"]["least"]) == (True, "mean", 3)
    assert [(one["counted"], one["loss"]) for one in told["rounds"]] == [(3, None)]
    assert told["epsilon"] > 0
    assert any("masked: the server saw the sum alone" in note for note in on["notes"]["training"])
    assert any("hidden with epsilon" in note for note in on["notes"]["training"])
    shared_out.settings(tune={"name": "lora", "rank": 4})
    assert_clear(shared_out.nacre(*words), "carries another adapter than tune asks for", "'r': 8")


@pytest.mark.slow
def test_one_liar_and_one_that_vanishes_are_survived(shared_out: Place) -> None:
    def cast(number, app):
        return {1: lambda: backwards(app, 4.0), 2: lambda: vanishing(app, 1)}.get(number, lambda: app)()

    with Workspace.open(shared_out.root) as space:
        how = Federating(rounds=3, epochs=8, simulated=6)
        found = federate(space, "increment_2", how, seats=Stage(cast=cast), promote="never")
    assert [one.silent for one in found.federated.rounds] == [0, 1, 1]
    task = found.evolution.tasks()["increment_2"]
    assert task["after"] > task["before"] + 0.4
    other = shared_out.nacre("evolve", "increment_2", "--from", 2, "--promote", "never", "--json").json
    assert (other["version"], other["trained"]) == (4, True)  # what was trained centrally is another version


def test_what_cannot_be_had_together_is_said(lived_in: Place) -> None:
    base = ("federate", "train", "increment_2", "--simulate", 4)
    assert_clear(lived_in.nacre(*base), "not what 'full' trains", "tune: lora")
    lived_in.settings(tune=LORA)
    for words, parts in (
        (("--secure", "--aggregation", "median"), ("only the sum can be read",)),
        (("--secure", "--least", 2), ("--least 3",)),
        (("--noise", 1.0), ("--clip",)),
        (("--noise", 1.0, "--clip", 1.0, "--aggregation", "median"), ("says nothing of a median",)),
        (("--least", 5), ("4 parties cannot give 5 answers",)),
        (("--trim", 0.6), ("--trim",)),
        (("--skew", -1), ("skew",)),
        (("--skew", "nan"), ("skew",)),
    ):
        assert_clear(lived_in.nacre(*base, *words), *parts)
    assert_clear(lived_in.nacre(*base), "unknown dataset 'increment_2'")
    real = ("federate", "train", "increment_2")
    assert_clear(lived_in.nacre(*real, "--skew", 0.5), "real parties have the rows that they have")
    assert_clear(lived_in.nacre(*real), "there are no dev rows to judge by")
    assert_clear(lived_in.nacre(*real, "--listen", "0.0.0.0:0"), "plain text", "--insecure")
    assert_clear(lived_in.nacre(*real, "--listen", "nowhere"), "that is no address")
    assert_clear(lived_in.nacre(*real, "--key", "k.pem"), "certificate and key belong together")
    (lived_in.root / "parties").write_text("north short\n")
    assert_clear(lived_in.nacre(*real, "--parties", "parties"), "no party and its secret", "line 1")
    (lived_in.root / "parties").write_bytes(b"north \xff\xfe")
    assert_clear(lived_in.nacre(*real, "--parties", "parties"), "not UTF-8")
    (lived_in.dataset / "increment_2").mkdir()
    write_lines(lived_in.dataset / "increment_2" / "dev.json", rows("place")[:20])
    assert_clear(lived_in.nacre(*real, "--listen", "127.0.0.1:0", "--wait", 0), "0 of 2 parties are there", code=1)
    join = ("federate", "join", "127.0.0.1:1", "--data", "dataset/base")
    assert_clear(lived_in.nacre(*join, "--model", "nowhere"), "the model path does not exist")
    assert len(lived_in.json("versions", "list")["versions"]) == 2


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.slow
def test_real_parties_on_real_sockets_of_which_one_is_killed(shared_out: Place, tmp_path: Path) -> None:
    place, port = shared_out, free_port()
    found = rows("place")
    write_lines(place.dataset / "increment_2" / "dev.json", found[:80])
    (place.dataset / "increment_2" / "train.json").unlink()
    secrets = {name: name * 5 for name in ("north", "south", "east", "west")}
    (tmp_path / "parties").write_text("".join(f"{name} {secret}\n" for name, secret in secrets.items()))
    words = [
        "--rounds",
        "4",
        "--epochs",
        "40",
        "--least",
        "3",
        "--lost-after",
        "20",
        "--parties",
        str(tmp_path / "parties"),
    ]
    server = start(
        "federate", "train", "increment_2", "--listen", f"127.0.0.1:{port}", *words, "--json", cwd=place.root
    )
    parties = {}
    for number, name in enumerate(secrets):
        part = found[80 + 40 * number : 120 + 40 * number]
        folder = tmp_path / name
        write_lines(folder / "rows" / "train.json", part)
        (folder / "secret").write_text(secrets[name])
        # version 2 is a full model: the parties have a copy of what the adapter sits on
        with Workspace.open(place.root) as space:
            shutil.copytree(space.store.path(space.ledger.version(2).artifact), folder / "model")
        given = ["--data", "rows", "--model", "model", "--party", name, "--secret", "secret"]
        parties[name] = start("federate", "join", f"127.0.0.1:{port}", *given, cwd=folder)
    killed = parties.pop("west")
    end = time.monotonic() + 300
    while not (tmp_path / "west" / ".nacre-party" / "start").exists() and time.monotonic() < end:
        time.sleep(0.1)  # until it has been sent the adapter
    killed.kill()
    killed.communicate()
    out, err = server.communicate(timeout=500)
    assert server.returncode in (0, 3, 4), err
    made = json.loads(out)
    for name, one in parties.items():
        said, error = one.communicate(timeout=60)
        assert one.returncode == 0, (name, said, error)
        assert "the federation is over" in said
    told = made["federated"]
    # the first round begins with any three: if the killed one is of them, two are left, and it does not count
    assert [one["counted"] >= 3 for one in told["rounds"]][1:] == [True, True, True]
    assert any(one["silent"] == 1 for one in told["rounds"])
    assert made["version"] == 3
    assert made["snapshot"]["train"]["rows"] == 0
    assert made["tasks"]["increment_2"]["after"] > 0.9
    kept = b"".join(path.read_bytes() for path in (place.root / ".nacre" / "memory" / "rows").glob("*"))
    for row in found[80:240]:
        assert row["instruction"].encode() not in kept  # the server has never seen them
