"""In which order and ratio new rows are learned, and at what rate."""

import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from transformers import get_scheduler

from nacre.base.errors import InputError
from nacre.model.load import load_model
from nacre.model.losses import answer_losses
from nacre.records import Origin, Train
from nacre.train.course import Part, part_by_part
from nacre.train.protect.base import TrainingRows
from nacre.train.rows import prepare
from nacre.train.run import train
from toy_kit import ask

SHORT = {"epochs": 2.0, "batch_size": 8}


def of(task: str, rows, **extra):
    return [row.model_copy(update={"origin": Origin(task=task, extra=extra)}) for row in rows]


@pytest.fixture
def learned(toy, spy, tmp_path):
    """Train on rows; returns the questions in the order they were trained on, and the run."""

    def learned(new, *, protect=(), memory=(), **settings):
        job = toy.job(tmp_path, memory=memory, protect=[*protect, "spy"], train={**SHORT, **settings})
        trained = train(replace(job, new=new))
        texts = [
            toy.tokenizer.decode(ids, skip_special_tokens=True).split(" : ")[1].removesuffix(" Assistant")
            for batch in spy.batches
            for ids in batch["input_ids"][batch["source"] == 0]
        ]
        return texts, trained

    return learned


@pytest.mark.parametrize(
    ("asked", "steps", "said"),
    [
        ({"epochs": 100.0, "min_steps": 1}, 125, False),
        ({"epochs": 1.0, "min_steps": 1000, "max_steps": 1000}, 1000, False),
        ({"epochs": 900.0, "min_steps": 70, "max_steps": 70}, 70, False),
        ({"epochs": 1.0, "min_steps": 200}, 38, True),
    ],
)
@pytest.mark.parametrize("parts", [(), (6, 4)])
def test_passes_and_exact_steps_that_are_asked_for_are_made(toy, asked, steps, said, parts):
    new = toy.tasks["feed"][:10]
    settings = Train(batch_size=8, max_length=64, learning_rate=1e-3, **asked)
    prepared = prepare(TrainingRows(new, datasets=parts, in_turn=bool(parts)), toy.tokenizer, settings)
    assert abs(prepared.steps - steps) <= (1 if parts else 0)
    assert any("repeated at most 30 times" in note for note in prepared.notes) == said


def test_short_rows_come_first_in_the_first_pass_alone(toy, learned):
    new = [ask(" ".join(["cat"] * (1 + n % 6)) + f" {size}", "hay") for n in range(6) for size in ("big", "old")]
    texts, trained = learned(new, curriculum="length")
    lengths = [len(text) for text in texts]
    assert lengths[:12] == sorted(lengths[:12])
    assert sorted(texts[12:24]) == sorted(texts[:12])
    assert lengths[12:24] != sorted(lengths[12:24])
    assert any(note.startswith("curriculum: short rows first") for note in trained.notes)


def test_rows_that_the_start_finds_likely_come_first(toy, learned):
    new = [*toy.tasks["paint"][:8], *toy.tasks["feed"][:8]]
    texts, _ = learned(new, curriculum="loss")
    losses = answer_losses(load_model(toy.base), toy.tokenizer, new, 64)
    by_question = {row.prompt[0].content: loss.nll / loss.tokens for row, loss in zip(new, losses, strict=True)}
    first = [by_question[text] for text in texts[:16]]
    assert all(before <= after + 1e-4 for before, after in pairwise(first))
    assert all(text.startswith("paint") for text in texts[:8])


def test_a_column_decides_and_mixed_in_rows_keep_their_share(toy, spy, learned):
    new = [row for n, one in enumerate(toy.tasks["feed"][:24]) for row in of("feed", [one], level=-n)]
    texts, trained = learned(new, curriculum="column:level", protect=["replay"], memory=("paint",))
    assert texts[:24] == [row.prompt[0].content for row in reversed(new)]
    assert any("by column 'level' (as numbers)" in note for note in trained.notes)
    assert {int((batch["source"] > 0).sum()) for batch in spy.batches} <= {1, 2}
    with pytest.raises(InputError, match="unknown column 'levle'"):
        learned(new, curriculum="column:levle")


def test_datasets_are_mixed_in_their_ratio_and_each_is_seen_whole_before_a_row_comes_again(toy, learned):
    new = of("feed", toy.tasks["feed"]) + of("place", toy.tasks["place"][:12])
    texts, trained = learned(new, mix={"place": 1.0, "feed": 3.0})
    for start in range(0, len(texts), 8):
        assert Counter(text.split()[0] for text in texts[start : start + 8]) == {"feed": 6, "place": 2}
    place = [text for text in texts if text.startswith("place")]
    assert len(set(place[:12])) == len(set(place[12:24])) == 12
    assert place[:12] != place[12:24]
    assert "mix: of the new rows of every batch place 25.0% (12 rows), feed 75.0% (48 rows)" in trained.notes


@pytest.mark.parametrize(
    ("settings", "what", "fix"),
    [
        ({"mix": {"feed": 1, "plaice": 1}}, "unknown dataset 'plaice'", "did you mean 'place'?"),
        ({"mix": {"feed": 1}}, "no ratio is given for place", "give place a ratio too"),
    ],
)
def test_a_mix_that_does_not_name_the_datasets_is_refused(toy, learned, settings, what, fix):
    new = of("feed", toy.tasks["feed"][:4]) + of("place", toy.tasks["place"][:4])
    with pytest.raises(InputError, match=what) as refused:
        learned(new, **settings)
    assert fix in refused.value.fix


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"curriculum": "lenght"}, "give none, length, loss, parts, or column:"),
        ({"curriculum": "column:"}, "the name of a column"),
        ({"curriculum": "parts", "mix": {"a": 1.0}}, "keep one"),
        ({"mix": {"a": 0}}, "greater than 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(toy, tmp_path, settings, what):
    with pytest.raises(ValueError, match=what):
        toy.job(tmp_path, train=settings)


def test_one_dataset_after_another_each_with_its_own_course_of_the_rate(toy, learned):
    new = of("feed", toy.tasks["feed"][:32]) + of("place", toy.tasks["place"][:16])
    texts, trained = learned(
        new, curriculum="parts", protect=["replay"], memory=("paint",), logging_steps=1, scheduler="linear", warmup=2
    )
    assert any(note == "curriculum: feed (32 rows), then place (16 rows)" for note in trained.notes)
    starts = [text.split()[0] for text in texts]
    assert starts == ["feed"] * starts.count("feed") + ["place"] * starts.count("place")
    assert starts.count("feed") == pytest.approx(2 * 32, abs=7)
    assert starts.count("place") == pytest.approx(2 * 16, abs=7)
    log = (trained.folder / "trainer_log.jsonl").read_text().splitlines()
    rates = [json.loads(line)["learning_rate"] for line in log]
    assert [n for n, rate in enumerate(rates) if rate == 0] == [0, 10]
    assert [n for n, rate in enumerate(rates) if rate == pytest.approx(3e-3)] == [2, 12]
    one, _ = learned(toy.tasks["feed"][:8], curriculum="parts")
    assert one


def test_each_part_has_the_schedule_that_a_run_of_its_own_would_have():
    parts = [Part(10, 2), Part(5, 1), Part(20, 0)]
    for name in ("cosine", "linear", "polynomial", "constant_with_warmup", "inverse_sqrt"):
        factor = part_by_part(name, parts, 1e-3)
        start = 0
        for part in parts:
            optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
            alone = get_scheduler(name, optimizer, num_warmup_steps=part.warmup, num_training_steps=part.steps)
            for step in range(part.steps):
                assert factor(start + step) == pytest.approx(alone.lr_lambdas[0](step))
            start += part.steps
        assert factor(start) == pytest.approx(alone.lr_lambdas[0](20)), "the trainer asks once more after the last step"


def test_rows_with_typos_are_learned_beside_the_others(toy, learned):
    texts, trained = learned(toy.tasks["feed"], typos=0.2, typo_rows=0.5)
    assert any(
        note.startswith("typos: ") and "of 48 rows are learned once more with 20%" in note for note in trained.notes
    )
    count = int(next(note for note in trained.notes if note.startswith("typos: ")).split()[1])
    assert 10 < count < 38
    assert len(texts) == -(-2 * (48 + count) // 8) * 8
    assert not set(texts) <= {row.prompt[0].content for row in toy.tasks["feed"]}
