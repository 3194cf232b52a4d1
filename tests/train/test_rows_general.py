"""General rows in every batch, and generic text as a loss of its own."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch

from nacre.base.errors import InputError
from nacre.model.load import load_model
from nacre.train.generic import GenericBlocks
from nacre.train.protect.base import Context
from nacre.train.protect.lm import Lm
from nacre.train.run import train


@pytest.fixture
def write(tmp_path):
    """Writes rows into a file and returns its path."""

    def write(rows):
        path = tmp_path / "general.jsonl"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return path

    return write


def alpaca(toy, count: int):
    return [{"instruction": row.prompt[0].content, "output": row.answer} for row in toy.tasks["place"][:count]]


def test_a_quarter_of_every_batch_is_general_rows_of_any_format(toy, tmp_path, write, spy):
    chat = [{"role": "user", "content": "cat"}, {"role": "assistant", "content": "hay"}]
    pair = {"instruction": "a", "chosen": "b", "rejected": "c"}
    seen = {"instruction": "<image>what", "output": "cat", "images": ["cat.png"]}
    told = [{"messages": chat}, {"text": "sun moon sea tree"}, pair, {"instruction": "no answer"}, seen]
    path = write([*alpaca(toy, 10), *told])
    job = toy.job(tmp_path, protect=["general", "spy"], train={"max_steps": 8})
    trained = train(replace(job, general=path))
    assert f"general: 25% of every batch from 11 rows with answers and 1 plain texts of {path}" in trained.notes
    assert f"general: 2 rows of {path} cannot be used in the stage sft" in trained.notes
    assert f"general: 1 rows of {path} have pictures, sound or video and are left out" in trained.notes
    assert {int((batch["source"] == 1).sum()) for batch in spy.batches} == {2}
    seen = Counter(
        toy.tokenizer.decode(ids, skip_special_tokens=True)
        for batch in spy.batches
        for ids in batch["input_ids"][batch["source"] == 1]
    )
    assert max(seen.values()) - min(seen.values()) <= 1
    assert len(seen) == 12


def test_the_option_names_another_file_and_other_protections_see_general_rows_as_mixed_in(toy, tmp_path, write, spy):
    protect = ["replay", {"name": "general", "share": 0.5, "file": str(write(alpaca(toy, 6)))}, "spy"]
    trained = toy.learn(tmp_path, protect=protect, train={"max_steps": 4, "batch_size": 10})
    assert {tuple(int((batch["source"] == k).sum()) for k in (0, 1, 2)) for batch in spy.batches} == {(3, 2, 5)}
    assert any("50% of every batch from 6 rows with answers" in note for note in trained.notes)


@pytest.mark.parametrize(
    ("rows", "what", "fix"),
    [
        (None, "mixing general rows in needs general rows", "data.general"),
        (
            [{"instruction": "a", "chosen": "b", "rejected": "c"}],
            "no row that the stage sft learns from",
            "plain texts",
        ),
        ([], "the file is empty|holds no rows", ""),
        (
            [{"instruction": "<image>a", "output": "b", "images": ["a.png"]}],
            "every general row has pictures",
            "text alone",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(toy, tmp_path, write, rows, what, fix):
    job = toy.job(tmp_path, protect=["general"])
    with pytest.raises(InputError, match=what) as refused:
        train(job if rows is None else replace(job, general=write(rows)))
    assert fix in refused.value.fix
    with pytest.raises(InputError, match="does not exist"):
        toy.learn(tmp_path, protect=[{"name": "general", "file": str(tmp_path / "none.json")}])


def lm(toy, tmp_path, texts, **options) -> Lm:
    given = {"start": toy.base, "previous": toy.base, "tokenizer": toy.tokenizer, "max_length": 64, "folder": tmp_path}
    context = Context(**given, memory={}, generic=lambda: texts, teacher=lambda: None)
    return Lm(Lm.Config(**options), context)


def test_the_lm_term_is_the_cross_entropy_of_the_blocks_however_the_batch_is_cut(toy, tmp_path):
    texts = ["sun moon sea tree stone", "cat dog bird", "red green blue grey hay fish"] * 4
    protection = lm(toy, tmp_path, texts, weight=0.5, rows=4, length=5)
    model = load_model(toy.base)
    hidden = torch.zeros(1)

    def term(micro_batch: int, micro_batches: int) -> float:
        batch = {"step": 3, "micro_batch": micro_batch, "micro_batches": micro_batches}
        found = protection.loss(model, batch, hidden)
        return 0.0 if found is None else float(found.detach())

    ids_BT, part = protection._blocks.draw({"step": 3, "micro_batch": 0, "micro_batches": 1}, hidden.device)
    assert (tuple(ids_BT.shape), part) == ((4, 5), 1.0)
    with torch.no_grad():
        expected = float(model(input_ids=ids_BT, labels=ids_BT).loss)
    assert term(0, 1) == pytest.approx(0.5 * expected, rel=1e-5)
    for parts in (2, 4, 8):
        assert sum(term(k, parts) for k in range(parts)) / parts == pytest.approx(0.5 * expected, rel=1e-5)


def test_blocks_depend_on_the_step_and_the_seed_alone(toy):
    texts = [f"{one} {other} sun moon" for one in ("cat", "dog", "bird") for other in ("red", "green", "blue")]
    batch = {"step": 0, "micro_batch": 0, "micro_batches": 1}

    def drawn(seed: int, step: int):
        blocks = GenericBlocks(texts, toy.tokenizer, length=5, rows=4, seed=seed, where="here")
        return blocks.draw({**batch, "step": step}, torch.device("cpu"))[0]

    assert torch.equal(drawn(0, 1), drawn(0, 1))
    assert not torch.equal(drawn(0, 1), drawn(0, 2))
    assert not torch.equal(drawn(0, 1), drawn(1, 1))


def test_too_little_text_is_refused_and_the_source_is_told(toy, tmp_path):
    with pytest.raises(InputError, match="shorter than one block of 64 tokens"):
        lm(toy, tmp_path, ["sun moon"])
    assert lm(toy, tmp_path, ["sun moon"] * 9, length=4).notes == [
        "lm: 0.1 times the cross-entropy of text sampled from the previous version"
    ]
