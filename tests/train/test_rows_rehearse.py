"""Rows that the previous version writes: which are used, which are left out, and what they keep."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch

from nacre.base.errors import InputError
from nacre.model.chat import encode
from nacre.model.load import load_model
from nacre.train.protect import rehearse
from nacre.train.protect.base import Context, TrainingRows
from nacre.train.protect.rehearse import Rehearse
from nacre.train.rehearsal import Sampling, answered, frame, sample_prompts
from toy_kit import ask, weights_of

SAMPLING = Sampling(rows=60, attempts=256, prompt_tokens=12, answer_tokens=8, max_length=64, top_k=20)


def made(toy, folder, memory=(), **options) -> tuple[Rehearse, TrainingRows]:
    """The protection, and what it mixes in."""
    given = {"start": toy.base, "previous": toy.base, "tokenizer": toy.tokenizer, "max_length": 64, "folder": folder}
    context = Context(
        **given, memory={task: toy.tasks[task] for task in memory}, generic=lambda: [], teacher=lambda: None
    )
    protection = Rehearse(Rehearse.Config(**{"rows": 40, "prompt_tokens": 12, "answer_tokens": 8, **options}), context)
    return protection, protection.rows(TrainingRows(toy.tasks["feed"]))


def rows_of(found: TrainingRows):
    return [row for group in found.mixed_in[0].groups for row in group]


def test_a_model_that_learned_prompts_writes_different_ones_and_its_own_answers(toy, tmp_path):
    protection, found = made(toy, tmp_path)
    rows = rows_of(found)
    assert 20 <= len(rows) <= 40
    assert len({row.content_id for row in rows}) == len(rows)
    real = {row.prompt[0].content: row.answer for row in toy.tasks["paint"]}
    like = [row for row in rows if row.prompt[0].content in real]
    assert len(like) > 0.8 * len(rows)
    right = [row for row in like if row.answer.strip() == real[row.prompt[0].content]]
    assert len(right) > 0.9 * len(like)
    note = protection.notes[0]
    assert note.startswith(f"rehearse: 20% of every batch from {len(rows)} rows, prompts and answers by the previous")
    assert "repeated questions" in note


def test_what_is_written_is_kept_for_the_next_run_and_never_taken_for_other_options(toy, tmp_path, monkeypatch):
    protection, found = made(toy, tmp_path)
    monkeypatch.setattr(rehearse, "load_model", lambda *_: pytest.fail("the rows were written before"))
    again, same = made(toy, tmp_path, share=0.3)
    assert rows_of(same) == rows_of(found)
    assert again.notes[0].split("from")[1] == protection.notes[0].split("from")[1]
    monkeypatch.undo()
    _, other = made(toy, tmp_path, rows=30)
    assert len(rows_of(other)) <= 30
    assert len(list((tmp_path / "rehearsed").iterdir())) == 2


def test_kept_prompts_are_answered_by_the_previous_version_evenly_over_tasks(toy, tmp_path):
    protection, found = made(toy, tmp_path, memory=("paint", "place"), rows=20)
    paint, place = found.mixed_in[0].groups
    assert (len(paint), len(place)) == (10, 10) or "left out" in protection.notes[0]
    assert {row.origin.task for row in place} == {"place"}
    model = load_model(toy.base)
    said = answered(model, toy.tokenizer, place, SAMPLING, Counter())
    assert [row.answer for row in said] == [row.answer for row in place]
    truth = {row.prompt[0].content: row.answer for row in toy.tasks["place"]}
    assert any(row.answer != truth[row.prompt[0].content] for row in place), "the labels must not be used"


def test_prompts_of_a_file_are_answered(toy, tmp_path):
    path = tmp_path / "prompts.jsonl"
    lines = [{"text": row.prompt[0].content} for row in toy.tasks["paint"][:12]]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    protection, found = made(toy, tmp_path, prompts=path)
    truth = {row.prompt[0].content: row.answer for row in toy.tasks["paint"]}
    rows = rows_of(found)
    assert len(rows) == 12
    assert all(row.kind == "sft" and row.answer.strip() == truth[row.prompt[0].content] for row in rows)
    assert "12 rows, answers to 12 prompts by the previous version; left out: none" in protection.notes[0]
    with pytest.raises(InputError, match="the file with prompts does not exist"):
        made(toy, tmp_path, prompts=tmp_path / "none.jsonl")


def test_a_model_that_writes_nothing_usable_rehearses_nothing_and_says_so(toy, tmp_path):
    protection, found = made(toy, tmp_path, rows=8, prompt_tokens=2)
    assert not found.mixed_in
    assert protection.notes[0].startswith("rehearse: nothing is rehearsed, the previous version wrote 0 rows")
    assert "questions without an end" in protection.notes[0]


def test_seeds_without_a_kept_row_are_told(toy, tmp_path):
    protection, found = made(toy, tmp_path, rows=8, prompt_tokens=2, seeds=2)
    assert not found.mixed_in
    assert protection.notes[0] == "rehearse: no row is kept that could be shown to it as a seed"


def test_a_question_ends_where_the_template_asks_for_the_answer(toy):
    start, marker = frame(toy.tokenizer)
    words = toy.tokenizer.convert_ids_to_tokens
    assert (words(start), words(marker)) == (["Human", ":"], ["Assistant", ":"])
    shown = [ask("paint big cat", "red")]
    longer, same = frame(toy.tokenizer, shown)
    assert same == marker
    assert longer == [*encode(shown[0], toy.tokenizer, 64).input_ids, *start]


class Parrot(torch.nn.Module):
    """Says the same question each time, and keeps what it was shown."""

    def __init__(self, says: list[int]) -> None:
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(1))
        self.says, self.shown = says, []

    def generate(self, ids_BT: torch.Tensor, **_: object) -> torch.Tensor:
        self.shown = ids_BT[0].tolist()
        return torch.cat([ids_BT, torch.tensor([self.says] * len(ids_BT))], dim=1)


def test_rows_that_stand_before_are_examples_of_what_to_write(toy):
    words = toy.tokenizer("paint old moon Assistant :", add_special_tokens=False)["input_ids"]
    model, left_out, seeds = Parrot(words), Counter(), toy.tasks["paint"][:2]
    assert sample_prompts(model, toy.tokenizer, SAMPLING, left_out, seeds) == ["paint old moon"]
    assert left_out == {"repeated questions": 255}
    before = [token for row in seeds for token in encode(row, toy.tokenizer, 64).input_ids]
    assert model.shown == [*before, *toy.tokenizer("Human :", add_special_tokens=False)["input_ids"]]
    tight = replace(SAMPLING, max_length=30, answer_tokens=8)
    with pytest.raises(InputError, match="leave no room for a question"):
        sample_prompts(model, toy.tokenizer, tight, left_out, toy.tasks["paint"][:3])


def test_answers_that_are_empty_or_not_ended_are_left_out_and_counted(toy):
    left_out: Counter[str] = Counter()
    found = answered(
        load_model(toy.base), toy.tokenizer, toy.tasks["paint"][:6], replace(SAMPLING, answer_tokens=1), left_out
    )
    assert (len(found), left_out) == (0, {"answers longer than answer_tokens": 6})


def test_the_prompts_loss_is_the_mean_over_tokens_without_a_label(toy, tmp_path, spy):
    protection = Rehearse(Rehearse.Config(learn_prompts=0.5), None)
    model = load_model(toy.base)
    rows = [encode(row, toy.tokenizer, 64) for row in (*toy.tasks["feed"][:3], ask("cat", "hay"))]
    width = max(len(row.input_ids) for row in rows)
    ids_BT = torch.tensor([row.input_ids + [0] * (width - len(row.input_ids)) for row in rows])
    labels_BT = torch.tensor([row.labels + [-100] * (width - len(row.labels)) for row in rows])
    mask_BT = torch.tensor([[1] * len(row.input_ids) + [0] * (width - len(row.input_ids)) for row in rows])
    batch = {
        "input_ids": ids_BT,
        "labels": labels_BT,
        "attention_mask": mask_BT,
        "micro_batches": 1,
        "labelled_tokens": int((labels_BT[:, 1:] != -100).sum()),
        "predicted_tokens": int(mask_BT[:, 1:].sum()),
    }
    with torch.no_grad():
        output = model(input_ids=ids_BT, attention_mask=mask_BT, output_hidden_states=True)
    prompts_BT = torch.where((labels_BT == -100) & (mask_BT == 1), ids_BT, -100)
    expected = torch.nn.functional.cross_entropy(output.logits[:, :-1].flatten(0, 1), prompts_BT[:, 1:].flatten())
    found = protection.loss(model, batch, output.hidden_states[-1]).detach()
    assert float(found) == pytest.approx(0.5 * float(expected), rel=1e-5)
    assert Rehearse(Rehearse.Config(learn_prompts=0), None).loss(model, batch, output.hidden_states[-1]) is None


@pytest.mark.slow
def test_without_any_old_data_more_is_kept_than_without_rehearsal(toy, tmp_path):
    plain, rehearsed = (
        toy.loss(weights_of(toy.learn(tmp_path / str(place), memory=(), protect=protect)), "paint")
        for place, protect in enumerate(("none", [{"name": "rehearse", "rows": 40, "prompt_tokens": 12}]))
    )
    assert rehearsed < plain - 1
