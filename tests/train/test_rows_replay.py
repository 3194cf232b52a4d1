"""Which rows are replayed, how often, and how strongly they count."""

import re
from collections import Counter
from dataclasses import replace

import pytest
import torch
from train_kit import Spy, furthest

from nacre.base.errors import InputError
from nacre.model.load import load_model
from nacre.model.losses import answer_losses
from nacre.train.protect import PROTECTIONS
from nacre.train.protect.base import Context
from nacre.train.protect.replay import Replay
from nacre.train.run import train
from toy_kit import Toy


class Doubled(Replay):
    """Replay at twice the strength, as the budget's controller would set it."""

    name = "doubled"
    scale = 2.0


class Weighted(Replay):
    """The same by other means: the loss of the whole batch once more, with the rows that are not replayed masked."""

    name = "weighted"

    def loss(self, model, batch, hidden_BTD):
        labels_BT = torch.where((batch["source"] == 1)[:, None], batch["labels"], -100)
        logits_BTV = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        total = torch.nn.functional.cross_entropy(
            logits_BTV[:, :-1].flatten(0, 1), labels_BT[:, 1:].flatten(), reduction="sum"
        )
        return total * batch["micro_batches"] / batch["labelled_tokens"]


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the two protections above known."""
    monkeypatch.setitem(PROTECTIONS._entries, "doubled", "test_rows_replay:Doubled")
    monkeypatch.setitem(PROTECTIONS._entries, "weighted", "test_rows_replay:Weighted")


def drawn(toy: Toy, spy: type[Spy], work, **options) -> list[str]:
    """The texts of the replayed rows, in the order they were trained on."""
    settings = {"max_steps": 20}
    toy.learn(work, protect=[{"name": "replay", **options}, "spy"], memory=("paint", "place"), train=settings)
    return replayed(toy, spy)


def replayed(toy: Toy, spy: type[Spy]) -> list[str]:
    return [
        toy.tokenizer.decode(ids, skip_special_tokens=True)
        for batch in spy.batches
        for ids in batch["input_ids"][batch["source"] > 0]
    ]


def gradients(toy: Toy, spy: type[Spy], work, name: str, accumulation: int) -> dict[str, torch.Tensor]:
    """What the optimizer reads at the first step, with rows of a task that the toy does not know replayed."""
    spy.steps.clear()
    settings = {"max_steps": 1, "accumulation": accumulation}
    toy.learn(work, memory=("place",), protect=[{"name": name, "share": 0.4}, "spy"], train=settings)
    return spy.steps[0]


def test_twice_the_strength_counts_replayed_tokens_twice_however_the_batch_is_cut(toy, tmp_path, spy, known):
    doubled = gradients(toy, spy, tmp_path / "a", "doubled", 1)
    assert furthest(doubled, gradients(toy, spy, tmp_path / "b", "weighted", 1)) < 1e-6
    assert furthest(doubled, gradients(toy, spy, tmp_path / "c", "doubled", 4)) < 1e-6
    assert furthest(doubled, gradients(toy, spy, tmp_path / "d", "replay", 1)) > 1e-2


def test_at_strength_one_nothing_is_computed(toy, tmp_path):
    replay = Replay(Replay.Config(), None)
    replay._source = 1
    assert replay.scaled_loss(None, {}, torch.zeros(1)) is None


def test_where_the_loss_is_no_cross_entropy_strength_is_not_steered_and_that_is_told_once(toy, tmp_path):
    given = {"start": toy.base, "previous": toy.base, "tokenizer": toy.tokenizer, "max_length": 64, "folder": tmp_path}
    context = Context(**given, memory={}, generic=lambda: [], teacher=lambda: None, stage="dpo")
    replay = Replay(Replay.Config(), context)
    replay._source, replay.scale = 1, 2.0
    assert [replay.scaled_loss(None, {}, torch.zeros(1)) for _ in range(2)] == [None, None]
    assert replay.notes == ["replay: its rows count as much as the others: in stage dpo nothing steers that"]


def test_a_budget_keeps_a_floor_of_each_class_and_says_when_that_is_more(toy, tmp_path):
    def notes(**options) -> list[str]:
        protect = [{"name": "replay", **options}]
        trained = toy.learn(tmp_path, memory=("paint", "place"), protect=protect, train={"max_steps": 1})
        return [note for note in trained.notes if note.startswith("replay")]

    said = notes(samples=20, per_class=3)
    assert any("from 24 rows of past tasks (paint 12, place 12)" in note for note in said)
    assert any("20 of 96 past rows asked for" in note and "8 classes" in note for note in said)
    assert any(note.startswith("replay: 4 rows more than that are kept") for note in said)
    assert any("(paint 24, place 24)" in note for note in notes(budget=0.5, per_class=0))
    with pytest.raises(InputError, match=r"protect\[0\]|samples or budget") as refused:
        notes(samples=3, budget=0.1)
    assert "give samples or budget, not both" in str(refused.value.fix)


def test_surprise_gives_half_of_the_draws_to_the_unlikely_quarter(toy, tmp_path, spy):
    texts = Counter(drawn(toy, spy, tmp_path, order="surprise", share=0.5))
    tasks = Counter(re.search("paint|place", text)[0] for text in texts.elements())
    assert abs(tasks["paint"] - tasks["place"]) <= 1
    base = load_model(toy.base)
    for task in ("paint", "place"):
        losses = answer_losses(base, toy.tokenizer, toy.tasks[task], 64)
        order = sorted(range(48), key=lambda k: -losses[k].nll / losses[k].tokens)
        names = [toy.tasks[task][k].prompt[0].content for k in order]
        often = {name: sum(count for text, count in texts.items() if name in text) for name in names}
        unlikely = sum(often[name] for name in names[:12])
        # half of the draws, and a quarter of the other half
        assert abs(unlikely - 0.625 * tasks[task]) <= 3


def test_forgotten_first_draws_tasks_by_what_they_lost(toy, tmp_path, spy):
    job = toy.job(
        tmp_path,
        memory=("paint", "place"),
        protect=[{"name": "replay", "share": 0.5, "order": "forgotten-first"}, "spy"],
    )
    trained = train(replace(job, weak={"place": 0.3, "paint": 0.1, "gone": 0.9}))
    tasks = Counter(re.search("paint|place", text)[0] for text in replayed(toy, spy))
    total = sum(tasks.values())
    assert abs(tasks["place"] - total * (0.25 + 0.5 * 0.75)) <= 1
    assert any("place 62%" in note for note in trained.notes)


@pytest.mark.parametrize("weak", [{}, {"paint": 0.0, "other": 0.4}])
def test_without_a_loss_in_the_report_forgotten_first_is_uniform_and_says_so(toy, tmp_path, spy, weak):
    protect = [{"name": "replay", "order": "forgotten-first"}, "spy"]
    job = toy.job(tmp_path, memory=("paint", "place"), protect=protect, train={"max_steps": 5})
    trained = train(replace(job, weak=weak))
    tasks = Counter(re.search("paint|place", text)[0] for text in replayed(toy, spy))
    assert abs(tasks["paint"] - tasks["place"]) <= 1
    assert any("so all are drawn equally often" in note for note in trained.notes)
