"""`nacre combine`: the version it registers out of several, what it costs, and what the gate says of it."""

import random
import shutil
from pathlib import Path

import pytest
import torch

from nacre.cycle.increment.members import check_members
from nacre.cycle.increment.shares import search
from nacre.cycle.lineage import ancestry, tasks_of
from nacre.cycle.workspace import Workspace
from nacre.data.rows import read_rows
from nacre.model.ensemble import Ensemble, Plan, set_shares
from nacre.model.generate import answer_all
from nacre.model.load import load_model, load_tokenizer
from nacre.model.losses import answer_losses
from nacre.model.routed import with_adapters
from nacre.records import Decoding, Example, Recipe, Weights
from nacre.train.run import Job, train
from toy_kit import ask
from workspace_kit import SETTINGS, Place, assert_clear, rows, write_increment, write_lines

SHARES = ("north", "south", "west")
KNOWN = ("red", "green", "blue", "grey")  # words that the base says already
NOISE, TRAIN, DEV = 0.4, 60, 60
TUNE = {"name": "lora", "rank": 8}


def noisy(draw_number: int = 0) -> tuple[list[list[dict[str, str]]], list[dict[str, str]]]:
    """Three shares of the train rows of one new task, each with wrong answers of its own, and clean dev rows.

    The thing decides the answer, as one of four words; some answers of each share are another word, by chance.
    """
    words = {row["output"]: KNOWN[at] for at, row in enumerate({row["output"]: row for row in rows("place")}.values())}
    found = [row | {"output": words[row["output"]]} for row in rows("place")]
    dev, left = found[:DEV], found[DEV:]
    draw = random.Random(draw_number)
    if draw_number:
        random.Random(draw_number).shuffle(left)
    shares = []
    for at, _ in enumerate(SHARES):
        wrong = set(draw.sample(range(TRAIN), round(NOISE * TRAIN)))
        shares.append(
            [
                row | {"output": draw.choice([word for word in KNOWN if word != row["output"]])}
                if one in wrong
                else row
                for one, row in enumerate(left[at * TRAIN : (at + 1) * TRAIN])
            ]
        )
    return shares, dev


def noisy_shares(place: Place) -> None:
    """The three shares as increments with the same dev rows."""
    shares, dev = noisy()
    for name, share in zip(SHARES, shares, strict=True):
        write_lines(place.dataset / name / "train.json", share)
        write_lines(place.dataset / name / "dev.json", dev)


@pytest.fixture(scope="module")
def _band(_lived_in: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Versions 3, 4 and 5: adapters on version 2, each of which learned its share of the noisy task."""
    place = Place(tmp_path_factory.mktemp("band") / "assistant")
    shutil.copytree(_lived_in.root, place.root)
    place.settings(tune=TUNE, protect="none", train={"epochs": 6, "learning_rate": 1e-2, "min_steps": 1})
    noisy_shares(place)
    for name in SHARES:
        assert place.nacre("evolve", name, "--from", 2, "--promote", "never").code in (0, 3, 4)
    return place


@pytest.fixture
def band(_band: Place, tmp_path: Path) -> Place:
    """A copy of it."""
    shutil.copytree(_band.root, tmp_path / "assistant")
    return Place(tmp_path / "assistant")


def dev_scores(place: Place, *versions: int) -> dict[int, float]:
    """The score of each version on the clean dev rows of the noisy task."""
    return {one: place.json("versions", "show", one)["scores"]["north"] for one in versions}


@pytest.mark.slow
def test_a_vote_of_three_beats_the_best_of_them_on_a_noisy_task(band: Place) -> None:
    """And comes as one version of all of them: judged on every task, its cost told, served as one."""
    found = band.nacre("combine", 3, 4, 5, "--by", "vote", "--promote", "never", "--json").json
    assert (found["version"], found["parent"], found["promoted"]) == (6, 3, False)
    assert found["tasks"].keys() == {"base", "increment_1", *SHARES}
    alone = dev_scores(band, 3, 4, 5)
    [together] = dev_scores(band, 6).values()
    assert together > max(alone.values())

    told = found["combined"]
    assert (told["how"]["by"], told["passes"], told["searched"]) == ("vote", 3, None)
    assert [one["version"] for one in told["members"]] == sorted((3, 4, 5), key=lambda one: -mean_score(band, one))
    assert [one["score"] for one in told["members"]] == sorted((one["score"] for one in told["members"]), reverse=True)
    assert told["after"]["size_bytes"] > told["before"]["size_bytes"]
    assert told["after"]["tokens_s"] > 0
    assert any(note == "a token takes 3 forward passes of the base" for note in found["notes"]["together"])

    shown = band.json("versions", "show", 6)
    assert (shown["kind"], shown["parents"]) == ("adapter", [3, 4, 5])
    assert set(shown["tasks"]) == {"base", "increment_1", *SHARES}
    assert shown["combined"] == told
    page = band.nacre("versions", "show", 6).out
    assert "vote of version" in page
    assert "forward passes a token: 3" in page
    assert [row["kind"] for row in band.json("versions", "list")["versions"]][-1] == "vote"
    assert any("vote of" in note for note in band.json("report", 6)["notes"]["together"])
    assert "version 6 knows south, west by what it was put together from" in band.nacre("matrix", 6).out
    assert band.nacre("verify").code == 0
    assert not any((band.root / ".nacre" / "runs").glob("*"))


def mean_score(place: Place, version: int) -> float:
    scores = place.json("versions", "show", version)["scores"].values()
    return sum(scores) / len(scores)


@pytest.mark.slow
def test_layers_score_as_the_merge_of_the_same_does(band: Place) -> None:
    layers = band.nacre("combine", 3, 5, "--by", "layers", "--promote", "never", "--json").json
    merged = band.nacre("combine", 3, 5, "--by", "merge", "--weights", "1,1", "--promote", "never", "--json").json
    assert (layers["version"], merged["version"]) == (6, 7)
    assert (layers["combined"]["passes"], merged["combined"]["passes"]) == (1, 1)
    assert [one["weight"] for one in layers["combined"]["members"]] == [1.0, 1.0]
    assert layers["combined"]["after"]["perplexity"] == pytest.approx(
        merged["combined"]["after"]["perplexity"], rel=1e-4
    )
    assert {name: task["after"] for name, task in layers["tasks"].items()} == {
        name: task["after"] for name, task in merged["tasks"].items()
    }
    with Workspace.open(band.root) as space:
        models = [load_model(space.weights(space.ledger.version(number))) for number in (6, 7)]
        alone = load_model(space.weights(space.ledger.version(3)))
        assert space.store.path(space.ledger.version(7).artifact).joinpath("adapter_config.json").exists()
    ids_BT = torch.tensor([[8, 14, 20, 6, 11]])
    with torch.no_grad():
        one, other, plain = (model(input_ids=ids_BT).logits for model in (*models, alone))
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert (one - plain).abs().max() > 0.1
    assert any("one adapter of rank 16" in note for note in merged["notes"]["together"])
    assert band.nacre("export", 7, "--to", "hf", "--out", band.root / "out").code == 0
    refused = band.nacre("export", 6, "--to", "hf", "--out", band.root / "no")
    assert_clear(refused, "several adapters that answer together are no single model", "--by merge")
    assert_clear(band.nacre("compress", 6, "--to", "int8"), "are not one set of weights")


@pytest.mark.slow
def test_weights_go_by_dev_scores_and_the_same_command_again_makes_nothing(band: Place) -> None:
    found = band.nacre("combine", 3, 4, 5, "--by", "weighted", "--promote", "never", "--json").json
    members = found["combined"]["members"]
    total = sum(one["score"] for one in members)
    assert [one["weight"] for one in members] == pytest.approx([one["score"] / total for one in members])
    assert sum(one["weight"] for one in members) == pytest.approx(1)
    with Workspace.open(band.root) as space:
        weights = space.weights(space.ledger.version(6))
        assert isinstance(load_model(weights), Ensemble)
        plan = Plan.load(Path(str(weights.adapter)))
    assert list(plan.weights) == [one["weight"] for one in members]

    again = band.nacre("combine", 3, 4, 5, "--by", "weighted", "--promote", "never")
    assert "nothing to make: version 6 was put together in exactly this way" in again.out
    assert len(band.json("versions", "list")["versions"]) == 6

    write_increment(band.dataset, "increment_2", "place")
    refused = band.nacre("evolve", "increment_2", "--from", 6)
    assert_clear(refused, "version 6 is several adapters that answer together", f"--from {members[0]['version']}")
    assert "put together: nacre combine 3 4 5 --by weighted" in band.json("reproduce", 6, code=3)["reasons"][0]
    assert_clear(band.nacre("combine", 3, 6, "--by", "mean"), "version 6 is several adapters that answer together")


@pytest.mark.slow
def test_a_merge_is_searched_on_train_rows_alone(band: Place) -> None:
    found = band.nacre("combine", 3, 4, 5, "--by", "merge", "--search", 12, "--promote", "never", "--json").json
    searched = found["combined"]["searched"]
    assert 4 <= searched["evaluations"] <= 12
    assert searched["after"] <= searched["before"]
    assert searched["rows"] == 2 * 64 + 3 * TRAIN
    assert any("none of them a dev row" in note for note in found["notes"]["together"])
    with Workspace.open(band.root) as space:
        members = check_members(space, (3, 4, 5))
        held_out = {row.content_id for _, dev in members.devs for row in read_rows(space.memory, dev)}
        tried = members.train_rows(64)
        assert tried.keys() == {"base", "increment_1", *SHARES}
        assert not held_out & {row.content_id for found in tried.values() for row in found}
        names = ["a", "b", "c"]
        peft = with_adapters(
            load_model(space.weights(space.ledger.version(2))), dict(zip(names, members.adapters, strict=True))
        )
        tokenizer = load_tokenizer(members.weights[0])
        best, told = search(peft, names, tried, tokenizer, 64, 12)
        by_version = {one["version"]: one["weight"] for one in found["combined"]["members"]}
        assert best == tuple(by_version[number] for number in (3, 4, 5))
        assert told.model_dump() == searched
        equal = _mean_loss(peft, dict.fromkeys(names, 1 / 3), tried, tokenizer)
        assert equal == pytest.approx(searched["before"], rel=1e-3)
        lone = [_mean_loss(peft, {"a": 0.0, "b": 0.0, "c": 0.0} | {one: 1.0}, tried, tokenizer) for one in names]
        assert searched["after"] <= min(lone) + 1e-6


def _mean_loss(peft, shares, tried, tokenizer) -> float:
    set_shares(peft, shares)
    found = []
    for examples in tried.values():
        losses = answer_losses(peft, tokenizer, examples, 64)
        found.append(sum(one.nll for one in losses) / sum(one.tokens for one in losses))
    return sum(found) / len(found)


@pytest.mark.slow
def test_what_passes_is_champion_and_answers(band: Place) -> None:
    """The gate holds it against the champion on what that one knows; then it is the one name that is served."""
    band.settings(keep={"max_drop": 1.0})
    found = band.json("combine", 3, 4, 5, "--by", "mean")
    assert (found["verdict"], found["promoted"]) == ("pass", True)
    assert band.champion() == 6
    assert {name for name, task in found["tasks"].items() if task["verdict"] == "pass"} == {"base", "increment_1"}
    told = band.json("chat", "place big old cat", "--temperature", 0)
    assert told["version"] == "6"
    with Workspace.open(band.root) as space:
        tasks = tasks_of(ancestry(space, 6))
    assert set(tasks) == {"base", "increment_1", *SHARES}
    archive = band.root / "six.tar"
    assert band.nacre("versions", "export", 6, archive, "--with-rows").code == 0


@pytest.mark.slow
def test_the_gate_refuses_what_lost_too_much_together(band: Place) -> None:
    found = band.json("combine", 3, 4, 5, "--by", "layers", "--weights", "3,3,3", code=3)
    assert (found["verdict"], found["promoted"]) == ("fail", False)
    assert band.champion() == 2


@pytest.mark.slow
def test_rows_that_another_member_learned_are_nothing_to_be_judged_by(band: Place) -> None:
    """A member that has seen the dev rows would show the gate its memory."""
    lines = (band.dataset / "north" / "dev.json").read_text().splitlines()
    seen = band.dataset / "seen"
    seen.mkdir()
    (seen / "train.json").write_text("\n".join(lines[:40]) + "\n")
    (seen / "dev.json").write_text((band.dataset / "base" / "dev.json").read_text())
    assert band.nacre("evolve", "seen", "--from", 1, "--promote", "never").code in (0, 3, 4)
    band.settings(tune=TUNE)
    assert_clear(band.nacre("combine", 3, 6, "--by", "mean"), "sit on different bases", "--from 2")
    assert band.nacre("evolve", "seen", "--from", 2, "--promote", "never").code in (0, 3, 4)
    refused = band.nacre("combine", 3, 7, "--by", "mean")
    assert_clear(refused, "version 7 has learned 40 of the dev rows", "north")
    assert len(band.json("versions", "list")["versions"]) == 7


def test_what_cannot_be_combined_is_told(lived_in: Place) -> None:
    for words, parts in (
        (("3", "4", "--by", "luck"), ("unknown way to combine 'luck'", "layers")),
        (("3", "--by", "mean"), ("there is nothing to put together",)),
        (("3", "3", "--by", "mean"), ("version 3 is named twice",)),
        (("3", "4", "--by", "vote"), ("a vote of two says what the better one says",)),
        (("2", "9", "--by", "mean"), ("there is no version 9",)),
        (("2", "0", "--by", "mean"), ("version 0 is the base model",)),
        (("2", "1", "--by", "mean"), ("version 2 has no adapter: it is full",)),
        (("3", "4", "--by", "mean", "--weights", "1,2"), ("mean has no weights",)),
        (("3", "4", "--by", "weighted", "--weights", "1,2,3"), ("3 weights for 2 versions",)),
        (("3", "4", "--by", "weighted", "--weights", "1,-1"), ("no negative weight",)),
        (("3", "4", "--by", "layers", "--weights", "1;2"), ("'1;2' is no list of numbers",)),
        (("3", "4", "--by", "layers", "--search", "20"), ("layers is not searched",)),
        (("3", "4", "--by", "merge", "--search", "3"), ("3 evaluations are too few", "at least 4")),
    ):
        assert_clear(lived_in.nacre("combine", *words), *parts)
    assert len(lived_in.json("versions", "list")["versions"]) == 2
    assert not any((lived_in.root / ".nacre" / "runs").glob("*"))


@pytest.mark.slow
def test_over_five_draws_of_noise_a_vote_beats_the_best_of_three(lived_in: Place, tmp_path: Path) -> None:
    """One draw could be luck: other rows, other wrong answers."""
    best, vote, every, mean = [], [], [], []
    with Workspace.open(lived_in.root) as space:
        start = space.weights(space.ledger.version(2))
        for number in range(5):
            shares, dev = noisy(number)
            examples = [ask(row["instruction"], row["output"]) for row in dev]
            folders = [_learned(start, share, tmp_path / f"{number}-{at}") for at, share in enumerate(shares)]
            alone = [_right(start.changed(identity=str(one), adapter=one), examples) for one in folders]
            ranked = [folders[at] for at in sorted(range(3), key=lambda at: -alone[at])]
            best.append(max(alone))
            every += alone
            for by, scores in (("vote", vote), ("mean", mean)):
                folder = tmp_path / f"{number}-{by}"
                Plan(by, ("a", "b", "c"), (1.0,) * 3).save(folder, ranked)
                scores.append(_right(start.changed(identity=str(folder), adapter=folder), examples))
    assert sum(vote) > sum(best), (vote, best)
    assert sum(mean) / 5 > sum(every) / 15, (mean, every)


def _learned(start: Weights, share: list[dict[str, str]], work: Path) -> Path:
    """The adapter that a share teaches, the way `_band` does."""
    settings = SETTINGS["train"] | {"learning_rate": 1e-2, "min_steps": 1}
    recipe = Recipe.model_validate({"tune": TUNE, "protect": "none", "train": settings})
    rows_of_it = [ask(row["instruction"], row["output"]) for row in share]
    return train(Job(start=start, recipe=recipe, new=rows_of_it, work=work, shared=work, task="share")).folder


def _right(weights: Weights, examples: list[Example]) -> float:
    """The share of right answers."""
    decoding = Decoding(max_new_tokens=9, max_length=64)
    said = answer_all(load_model(weights), load_tokenizer(weights), examples, decoding)
    return sum(one.text == row.answer for one, row in zip(said, examples, strict=True)) / len(examples)
