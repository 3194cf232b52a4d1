"""What a federation is made of, without Flower: terms, shares, what is refused, what noise hides, one party."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from federated_kit import TERMS, adapter, moved
from nacre.base.errors import InputError
from nacre.model.load import load_model
from nacre.model.losses import answer_losses
from nacre.records import Recipe, Weights
from nacre.train.federated.noise import epsilon
from nacre.train.federated.party import Party
from nacre.train.federated.screen import Answer, fault, screened, weights_of
from nacre.train.federated.shares import deal
from nacre.train.federated.tensors import new_adapter, read_adapter, write_adapter
from nacre.train.federated.terms import HELD, LOCAL, Terms, local_recipe, model_print
from nacre.train.protect import PROTECTIONS, sdft
from toy_kit import Toy

LORA = {"name": "lora", "rank": 4}


def answers_of(rows: list) -> Counter:
    return Counter(row.answer for row in rows)


def test_balanced_shares_hold_the_same_of_every_class(toy: Toy) -> None:
    rows = toy.tasks["feed"]
    shares = deal(rows, 4, None, seed=0)
    assert sorted(row.content_id for share in shares for row in share) == sorted(row.content_id for row in rows)
    whole = answers_of(rows)
    for share in shares:
        assert len(share) == 12
        assert all(abs(answers_of(share)[answer] - count / 4) < 1 for answer, count in whole.items())


def test_skewed_shares_do_not(toy: Toy) -> None:
    rows = toy.tasks["feed"]
    shares = deal(rows, 6, 0.1, seed=1)
    assert sum(map(len, shares)) == len(rows)
    assert all(shares)
    assert max(answers_of(share).most_common(1)[0][1] / len(share) for share in shares) > 0.9
    assert max(map(len, shares)) > 2 * min(map(len, shares))
    assert deal(rows, 6, 0.1, seed=1) == shares
    assert deal(rows, 6, 0.1, seed=2) != shares
    with pytest.raises(InputError, match="3 rows cannot be dealt out to 4 parties"):
        deal(rows[:3], 4, None, seed=0)


def test_what_is_no_adapter_of_ours_is_refused_and_counted() -> None:
    sent = adapter()
    renamed = {f"x.{name}": one for name, one in sent.items()}
    short = {**sent, "q.lora_A": sent["q.lora_A"][:1]}
    double = {name: one.astype(np.float64) for name, one in sent.items()}
    broken = {**sent, "q.lora_B": np.full_like(sent["q.lora_B"], np.nan)}
    assert fault(sent, sent) is None
    assert [fault(one, sent) for one in (renamed, short, double, broken)] == [
        "other names",
        "other shapes",
        "other shapes",
        "not finite",
    ]
    honest = [Answer(place, moved(sent, 0.1 + 0.01 * place), 10) for place in range(5)]
    loud = Answer(7, moved(sent, 3.0), 10)
    kept, refused = screened([*honest, loud, Answer(8, broken, 10), Answer(9, sent, 0)], sent)
    assert [one.node for one in kept] == [0, 1, 2, 3, 4]
    assert refused == {"too far away": 1, "not finite": 1, "no rows": 1}
    assert [one.node for one in screened([*honest[:2], loud], sent)[0]] == [0, 1]
    assert len(screened([honest[0], loud], sent)[0]) == 2  # of two, nobody is the odd one out


def test_nobody_weighs_more_than_a_few_others() -> None:
    answers = [Answer(place, adapter(), rows) for place, rows in enumerate((10, 20, 30, 10**9))]
    assert weights_of(answers, equal=False) == [10.0, 20.0, 30.0, 100.0]
    assert weights_of(answers, equal=True) == [1.0] * 4


def test_noise_hides_more_when_it_is_louder_and_less_when_it_is_asked_often() -> None:
    assert epsilon(None, 5, 1e-5) is None
    once = epsilon(1.0, 1, 1e-5)
    assert once == pytest.approx(0.5 + 2 * np.sqrt(0.5 * np.log(1e5)))
    assert epsilon(2.0, 1, 1e-5) < once < epsilon(1.0, 4, 1e-5)


def test_a_recipe_is_cut_to_what_parties_can_follow() -> None:
    recipe, notes = local_recipe(Recipe.model_validate({"tune": LORA, "train": {"processes": 2}}), 2.0)
    assert (recipe.train.processes, recipe.train.epochs, recipe.train.min_steps) == (1, 2.0, 1)
    assert recipe.protect == HELD
    assert notes[0] == "train.processes does not hold at the parties, who train in one process each"
    assert "parties have no old rows" in notes[1]
    assert local_recipe(Recipe.model_validate({"tune": LORA, "protect": ["l2"]}), 1.0)[0].protect == ({"name": "l2"},)
    assert set(LOCAL) <= set(PROTECTIONS.names())
    for asked, said in (
        ({}, "not what 'full' trains"),
        ({"tune": {**LORA, "init": "pissa"}}, "more than LoRA's own matrices"),
        ({"tune": {**LORA, "modules_to_save": ["lm_head"]}}, "more than LoRA's own matrices"),
        ({"tune": LORA, "protect": ["l2", "replay"]}, "replay cannot act at the parties"),
        ({"tune": LORA, "train": {"learning_rate": "pilot"}}, "every party would find another rate"),
        ({"tune": LORA, "train": {"stage": "rm"}}, "a reward model's head"),
    ):
        with pytest.raises(InputError, match=said):
            local_recipe(Recipe.model_validate({"protect": "none", **asked}), 1.0)


def test_a_party_trains_alone_whatever_it_is_told() -> None:
    told = {**TERMS, "train": {"processes": 4, "report_to": ["wandb"], "deepspeed": "/etc/passwd", "seed": 5}}
    train = Terms.model_validate(told).recipe(3).train
    assert (train.processes, train.report_to, train.deepspeed, train.seed) == (1, (), None, 8)


def party(toy: Toy, work: Path, rows: list, **changes: object) -> Party:
    told = {
        **TERMS,
        "base": model_print(Path(toy.base.model), work / "prints.json"),
        "tune": LORA,
        "train": {"epochs": 6, "batch_size": 8, "max_length": 64, "learning_rate": 1e-2},
        **changes,
    }
    model = Weights(identity=model_print(Path(toy.base.model), work / "prints.json"), model=toy.base.model)
    return Party(model, rows, Terms.model_validate(told), work)


def test_a_party_learns_from_its_rows_and_gives_tensors_of_the_agreed_form(toy: Toy, tmp_path: Path) -> None:
    rows = toy.tasks["feed"][:24]
    one = party(toy, tmp_path, rows)
    new_adapter(one.model, one.terms.tune, tmp_path / "first", seed=3)
    first = read_adapter(tmp_path / "first")
    found = one.learn(1, first)
    assert fault(found.arrays, first) is None
    assert found.rows == 24
    assert any(np.abs(found.arrays[name] - first[name]).max() > 1e-3 for name in first)

    def loss(arrays: dict) -> float:
        weights = write_adapter(tmp_path / "scored", tmp_path / "first", arrays).changed(model=toy.base.model)
        losses = answer_losses(load_model(weights), toy.tokenizer, rows, 64)
        return sum(one.nll for one in losses) / sum(one.tokens for one in losses)

    assert loss(found.arrays) < 0.7 * loss(first)
    again = one.learn(1, first)
    assert all(np.array_equal(again.arrays[name], found.arrays[name]) for name in first)
    assert not (tmp_path / "run").exists()


def test_a_party_refuses_what_it_cannot_or_must_not_do(toy: Toy, tmp_path: Path) -> None:
    rows = toy.tasks["feed"][:8]
    with pytest.raises(InputError, match="the model here is another one"):
        party(toy, tmp_path, rows, base="0" * 64)
    with pytest.raises(InputError, match="protections that cannot act here"):
        party(toy, tmp_path, rows, protect=({"name": "replay"},))
    held_out = tuple(row.content_id for row in rows)
    assert len(party(toy, tmp_path, rows, held_out=held_out[:5]).rows) == 3
    with pytest.raises(InputError, match="no rows are left"):
        party(toy, tmp_path, rows, held_out=held_out)
    with pytest.raises(InputError, match="does not fit: other names"):
        party(toy, tmp_path, rows).learn(1, adapter())


@pytest.mark.slow
@pytest.mark.parametrize("name", LOCAL)
def test_protections_that_need_no_old_rows_act_at_a_party(
    toy: Toy, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdft, "HELPS", float("inf"))  # the toy cannot read a demonstration; here it is to train
    rows = toy.tasks["feed"][:16]
    plain, held = (
        party(toy, tmp_path / kind, rows, protect=chosen)
        for kind, chosen in (("plain", ()), ("held", ({"name": name},)))
    )
    new_adapter(plain.model, plain.terms.tune, tmp_path / "first", seed=3)
    first = read_adapter(tmp_path / "first")
    free, kept = plain.learn(1, first).arrays, held.learn(1, first).arrays
    assert any(not np.array_equal(free[one], kept[one]) for one in first)
