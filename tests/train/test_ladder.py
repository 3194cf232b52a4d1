"""Whatever is trained and whatever may be kept: `auto` names protections that can act, and firmer ones after them."""

import itertools
from typing import get_args

import pytest

from nacre.records import Recipe, Tune
from nacre.records.tune import Lora
from nacre.train.protect.auto import Past, ladder
from nacre.train.protect.build import check_protections, fitting

TUNERS = [kind.model_fields["name"].default for kind in get_args(get_args(Tune)[0])]
STAGES = ("sft", "pt", "rm", "dpo", "kto")
PASTS = [
    Past(learned=learned, rows=rows, share=share)
    for learned, rows, share in itertools.product((False, True), (False, True), (0.0, 0.05, 1.0))
    if learned or not rows
]


def recipe(tune, stage="sft", sharding="none", **train):
    return Recipe.model_validate({"tune": tune, "train": {"stage": stage, "sharding": sharding, **train}})


def names(rung):
    return [entry["name"] for entry in rung.protect]


@pytest.mark.parametrize("sharding", ["none", "zero2", "zero3"])
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("tune", TUNERS)
def test_every_rung_is_a_list_that_a_user_could_have_written(tune, stage, sharding):
    for past in PASTS:
        asked = recipe(tune, stage, sharding)
        rungs = fitting(ladder(asked, past), asked)
        assert rungs
        for rung in rungs:
            check_protections(asked.model_copy(update={"protect": rung.protect, "tune": rung.tune or asked.tune}))
        assert len({str(rung.protect) for rung in rungs}) == len(rungs)


def test_what_cannot_act_is_named_in_the_reason():
    asked = recipe("ia3")
    rungs = fitting(ladder(asked, Past(learned=True, rows=True)), asked)
    assert len(rungs) == 2, "without average the third rung is the second"
    asked = recipe("lora", sharding="zero3")
    (only, *_) = fitting(ladder(asked, Past(learned=True, rows=True)), asked)
    assert names(only) == ["replay"]
    assert "left out, because they cannot act in this run: distill" in only.why


def test_few_or_no_rows_mean_adapters_of_their_own_where_a_router_can_know_all_prompts():
    for share in (0.0, 0.1):
        for past in (Past(learned=False, rows=False, share=share), Past(learned=True, rows=True, share=share)):
            (rung,) = ladder(recipe("full"), past)
            assert names(rung) == ["separate"]
            assert isinstance(rung.tune, Lora)
    blind = Past(learned=True, rows=False, share=0.0)
    assert [names(rung) for rung in ladder(recipe("full"), blind)] == [["ewc", "distill"], ["ewc", "distill", "merge"]]
    few = ladder(recipe({"name": "lora", "dora": True}), Past(learned=True, rows=True, share=0.05))
    assert [names(rung) for rung in few] == [["replay", "distill", "ewc"], ["replay", "distill", "ewc", "average"]]
    assert [rung.protect[0]["share"] for rung in few] == [0.1, 0.2]
    assert names(ladder(recipe("lora"), Past(learned=True, rows=True, routed=True))[0]) == ["separate"]


def test_a_list_of_the_users_own_has_no_ladder():
    assert ladder(Recipe(protect=({"name": "l2"},)), Past(learned=True, rows=True)) == ()
