"""The losses of preference learning against TRL's own trainers, on the same rows and the same two models."""

from typing import Any

import pytest
import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, SFTConfig

from nacre.model.load import load_model
from nacre.records.recipe import Preference
from nacre.train.rows import table_of
from nacre.train.stages.base import Measured
from nacre.train.stages.judged import JudgedCollator, Judgement, ProtectedJudged, encode_judged
from nacre.train.stages.losses import PAIR_LOSSES, Side, kto
from nacre.train.stages.pairs import Pair, PairCollator, ProtectedPairs, encode_pairs
from nacre.train.stages.rows import UNWANTED, WANTED, RowLosses, with_start
from toy_kit import judge, make_model, prefer

QUIET = {"report_to": "none", "use_cpu": True, "bf16": False, "max_length": None, "disable_dropout": False}


class PlainDPO(DPOTrainer):
    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset


class PlainKTO(KTOTrainer):
    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset


def split(ids: list[int], labels: list[int]) -> tuple[list[int], list[int]]:
    prompt = sum(label == -100 for label in labels)
    return ids[:prompt], ids[prompt:]


def measured(rows: list[Any], start: Any, columns: dict[str, tuple[str, str]], own: str) -> Dataset:
    table = table_of(rows).add_column("source", [0] * len(rows))
    return with_start(Measured(table, start, fresh=False), columns, own)


def trainer_of(kind: type[RowLosses], model: Any, tokenizer: Any, table: Dataset, folder: Any) -> RowLosses:
    """The trainer of a preference stage."""
    args = SFTConfig(
        str(folder), report_to="none", use_cpu=True, bf16=False, dataset_kwargs={"skip_prepare_dataset": True}
    )
    given = {"model": model, "args": args, "train_dataset": table, "processing_class": tokenizer}
    return kind(preference=Preference(), **given)


@pytest.fixture(scope="module")
def models(toy):
    """The starting version, and one that has moved."""
    return load_model(toy.base), make_model(toy.tokenizer, seed=8)


@pytest.mark.parametrize("loss", ["sigmoid", "hinge", "ipo"])
def test_the_loss_of_pairs_is_trls(loss, toy, models, tmp_path):
    start, now = models
    pairs: list[Pair] = encode_pairs(prefer(toy.tasks["feed"][:6]), toy.tokenizer, 64, [])
    columns = {"start": ("input_ids", "labels"), "rejected_start": ("rejected_ids", "rejected_labels")}
    table = measured(pairs, start, columns, "rejected_ids")
    inputs = PairCollator(toy.tokenizer.pad_token_id)(list(table))
    asking = trainer_of(ProtectedPairs, now, toy.tokenizer, table, tmp_path)
    with torch.no_grad():
        said = asking.log_probabilities(now, inputs)
    chosen, rejected = (Side(*(of_B[inputs["role"] == role] for of_B in said)) for role in (WANTED, UNWANTED))
    found = PAIR_LOSSES[loss](Preference(loss=loss, beta=0.3), chosen, rejected).mean()
    rows = [
        {"prompt_ids": split(p.input_ids, p.labels)[0], "chosen_ids": split(p.input_ids, p.labels)[1]}
        | {"rejected_ids": split(p.rejected_ids, p.rejected_labels)[1]}
        for p in pairs
    ]
    trainer = PlainDPO(
        model=make_model(toy.tokenizer, seed=8),
        ref_model=load_model(toy.base),
        args=DPOConfig(str(tmp_path), loss_type=[loss], beta=0.3, **QUIET),
        train_dataset=Dataset.from_list(rows),
        processing_class=toy.tokenizer,
    )
    with torch.no_grad():
        expected = trainer.compute_loss(trainer.model, trainer.data_collator(rows))
    assert float(found) == pytest.approx(float(expected), abs=1e-5)


def test_the_loss_of_judged_answers_is_trls(toy, models, tmp_path):
    start, now = models
    judged: list[Judgement] = encode_judged(judge(toy.tasks["feed"][:4]), toy.tokenizer, 64, [])
    columns = {"start": ("input_ids", "labels"), "other_start": ("other_ids", "other_labels")}
    table = measured(judged, start, columns, "other_ids")
    inputs = JudgedCollator(toy.tokenizer.pad_token_id)(list(table))
    how = Preference(beta=0.3, desirable_weight=1.5, undesirable_weight=0.5)
    asking = trainer_of(ProtectedJudged, now, toy.tokenizer, table, tmp_path)
    with torch.no_grad():
        said, others = asking.log_probabilities(now, inputs), asking.log_probabilities(now, inputs, "other_")
    found = kto(how, said, inputs["role"] == WANTED, others.gained.mean().clamp(min=0)).mean()
    rows = [
        {"prompt_ids": split(row.input_ids, row.labels)[0], "completion_ids": split(row.input_ids, row.labels)[1]}
        | {"KL_completion_ids": split(row.other_ids, row.other_labels)[1], "label": row.role == WANTED}
        for row in judged
    ]
    weights = {"desirable_weight": 1.5, "undesirable_weight": 0.5, "train_sampling_strategy": "sequential"}
    trainer = PlainKTO(
        model=make_model(toy.tokenizer, seed=8),
        ref_model=load_model(toy.base),
        args=KTOConfig(str(tmp_path), beta=0.3, **weights, **QUIET),
        train_dataset=Dataset.from_list(rows),
        processing_class=toy.tokenizer,
    )
    with torch.no_grad():
        expected = trainer.compute_loss(trainer.model, trainer.data_collator(rows))
    assert float(found) == pytest.approx(float(expected), abs=1e-5)
