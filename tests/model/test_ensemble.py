"""Adapters that answer together: what they expect next, what they vote for, and what they add up to."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from nacre.base.errors import InputError, NacreError
from nacre.model.choose import choose_all
from nacre.model.ensemble import Ensemble, Plan, check_member, elected, mixture, votes, write_merged
from nacre.model.export.merged import refuse_unmergeable
from nacre.model.generate import answer_all, answers_and_losses, time_answer, time_tokens
from nacre.model.load import load_model
from nacre.model.losses import answer_losses, labelled_losses
from nacre.model.reading import read_prompts_once
from nacre.model.smaller.base import whole_model
from nacre.records import Decoding, Weights
from nacre.records.weights import ENSEMBLE
from toy_kit import Toy, ask

NAMES = ("member_1", "member_2", "member_3")
SHARES = (0.5, 0.3, 0.2)
DECODING = Decoding(max_new_tokens=4, max_length=64)
# ranks, scalings and modules of their own
CONFIGS = (
    {"r": 4, "lora_alpha": 8},
    {"r": 8, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"]},
    {"r": 2, "lora_alpha": 6, "alpha_pattern": {"o_proj": 3}},
)


@pytest.fixture(scope="module")
def adapters(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three adapters of chance on the toy."""
    folders = []
    for seed, config in enumerate(CONFIGS):
        torch.manual_seed(seed)
        given = {"target_modules": "all-linear", "init_lora_weights": False, "task_type": "CAUSAL_LM"} | config
        folders.append(tmp_path_factory.mktemp("member"))
        get_peft_model(load_model(toy.base, train=True), LoraConfig(**given)).save_pretrained(str(folders[-1]))
    return folders


@pytest.fixture(scope="module")
def alone(toy: Toy, adapters: list[Path]) -> list[PeftModel]:
    """Each of them by itself."""
    return [load_model(toy.base.changed(adapter=folder)) for folder in adapters]


def together(toy: Toy, adapters: list[Path], folder: Path, by: str, weights: tuple[float, ...] = (1.0,) * 3) -> Weights:
    Plan(by, NAMES, weights).save(folder, adapters)
    return toy.base.changed(identity=by, adapter=folder)


def rows_of(toy: Toy) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompts of unequal length, filled up on the left."""
    rows = [[5, 9, 12, 7], [6, 8, 11, 13, 14, 10], [9]]
    width = max(map(len, rows))
    ids = [[0] * (width - len(row)) + row for row in rows]
    return torch.tensor(ids), torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])


@torch.no_grad()
def test_the_next_token_is_expected_with_the_weighted_mean_of_the_probabilities(toy, adapters, alone, tmp_path):
    model = load_model(together(toy, adapters, tmp_path, "weighted", SHARES))
    assert isinstance(model, Ensemble)
    ids_BT, mask_BT = rows_of(toy)
    given = {"input_ids": ids_BT, "attention_mask": mask_BT, "position_ids": (mask_BT.cumsum(-1) - 1).clamp(min=0)}
    apart = [one(**given).logits[:, -1].softmax(-1) for one in alone]
    mean_BV = sum(share * probabilities for share, probabilities in zip(SHARES, apart, strict=True))
    found_BV = model(**given).logits[:, -1]
    torch.testing.assert_close(found_BV.exp(), mean_BV, atol=1e-5, rtol=1e-4)
    assert min((mean_BV - one).abs().max() for one in apart) > 0.01, "no member may be the mean, or this shows nothing"


@torch.no_grad()
def test_rows_that_leave_the_batch_take_what_every_member_has_read_with_them(toy, adapters, alone, tmp_path):
    model = load_model(together(toy, adapters, tmp_path, "mean"))
    prompts = [[5, 9, 12, 7], [6, 8, 11, 13, 14, 10], [9, 7]]
    reading = read_prompts_once(model, prompts)
    assert not reading.can_go_back
    going_B = torch.tensor([2, 1])
    reading.cache.reorder_cache(going_B)
    mask_BT = torch.cat([reading.mask_BW[going_B], torch.ones(2, 1, dtype=torch.long)], dim=1)
    next_B1 = torch.tensor([[8], [15]])
    given = {"attention_mask": mask_BT, "position_ids": reading.next_B[going_B][:, None]}
    found = model(input_ids=next_B1, past_key_values=reading.cache, **given).logits[:, -1].exp()
    for place, ids in enumerate(([9, 7, 8], [6, 8, 11, 13, 14, 10, 15])):
        mean_V = sum(one(input_ids=torch.tensor([ids])).logits[0, -1].softmax(-1) for one in alone) / 3
        torch.testing.assert_close(found[place], mean_V, atol=1e-5, rtol=1e-4)
    foreign = alone[0](input_ids=torch.tensor([[5]]), use_cache=True).past_key_values
    with pytest.raises(NacreError, match="as every member read them"):
        model(input_ids=torch.tensor([[6]]), past_key_values=foreign)


@torch.no_grad()
def test_answers_and_losses_are_those_of_the_mean(toy, adapters, alone, tmp_path):
    """Greedy answers go on from the mean at every token, and losses are the mean's, at asked positions alone."""
    model = load_model(together(toy, adapters, tmp_path, "mean"))
    examples = [ask("feed big cat", "hay"), ask("paint old sea", "blue"), ask("place new sun", "hill")]
    answers, losses = answers_and_losses(model, toy.tokenizer, examples, DECODING)
    assert answers == answer_all(model, toy.tokenizer, examples, DECODING)
    for loss, plain in zip(losses, answer_losses(model, toy.tokenizer, examples, 64), strict=True):
        assert loss.nll == pytest.approx(plain.nll, rel=1e-4)
    ids, labels = [5, 9, 12, 7, 8], [-100, -100, -100, 7, 8]
    [(nll, count)] = labelled_losses(model, [(ids, labels)])
    mean_TV = sum(one(input_ids=torch.tensor([ids])).logits[0].softmax(-1) for one in alone) / 3
    assert (nll, count) == (pytest.approx(-float(mean_TV[2, 7].log() + mean_TV[3, 8].log()), rel=1e-4), 2)
    ids_T = reading_ids(toy, "feed big cat")
    for token in toy.tokenizer(answers[0].text)["input_ids"]:
        expected_V = sum(one(input_ids=torch.tensor([ids_T])).logits[0, -1].softmax(-1) for one in alone)
        assert int(expected_V.argmax()) == token
        ids_T.append(token)


def reading_ids(toy: Toy, question: str) -> list[int]:
    from nacre.model.chat import prompt_ids
    from nacre.records import Message

    return prompt_ids((Message(role="user", content=question),), toy.tokenizer)


def test_weights_are_shares_whatever_they_add_up_to():
    logits_MV = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    torch.testing.assert_close(mixture(logits_MV, (3, 1)), mixture(logits_MV, (0.75, 0.25)))
    torch.testing.assert_close(mixture(logits_MV, (1, 0)).exp(), logits_MV[0].softmax(-1))
    assert mixture(logits_MV, (3, 1)).exp().sum() == pytest.approx(1)
    assert bool(mixture(torch.tensor([[float("nan"), 0.0], [0.0, 1.0]]), (1, 1)).isnan().any())


@torch.no_grad()
def test_layers_say_what_the_merged_adapter_says(toy, adapters, alone, tmp_path):
    """Several at once, and one adapter of the ranks' sum: equal but for rounding, and unlike any member."""
    shares = (1.0, 0.5, -0.25)
    layers = load_model(together(toy, adapters, tmp_path / "layers", "layers", shares))
    assert isinstance(layers, PeftModel)
    (tmp_path / "merged").mkdir()
    assert write_merged(load_model(toy.base), adapters, shares, tmp_path / "merged") == 4 + 8 + 2
    merged = load_model(toy.base.changed(adapter=tmp_path / "merged"))
    assert json.loads((tmp_path / "merged" / "adapter_config.json").read_text())["r"] == 14
    ids_BT, mask_BT = rows_of(toy)
    given = {"input_ids": ids_BT, "attention_mask": mask_BT}
    one_BTV, other_BTV = layers(**given).logits, merged(**given).logits
    kept_BT = mask_BT.bool()
    torch.testing.assert_close(one_BTV[kept_BT], other_BTV[kept_BT], atol=1e-4, rtol=1e-4)
    assert min((one_BTV - one(**given).logits)[kept_BT].abs().max() for one in alone) > 0.1
    examples = [ask("feed big cat", "hay"), ask("paint old sea", "blue")]
    said = [answer_all(model, toy.tokenizer, examples, DECODING) for model in (layers, merged)]
    assert said[0] == said[1]


@torch.no_grad()
def test_a_merge_of_adapters_with_another_rule_of_scaling_is_exact_too(toy, tmp_path):
    """The library's own concatenation forgets that alpha / sqrt(rank) of a new rank is not 1."""
    folders = []
    for seed in range(2):
        torch.manual_seed(seed)
        config = LoraConfig(r=4, lora_alpha=6, use_rslora=True, init_lora_weights=False, task_type="CAUSAL_LM")
        folders.append(tmp_path / str(seed))
        get_peft_model(load_model(toy.base, train=True), config).save_pretrained(str(folders[-1]))
    Plan("layers", NAMES[:2], (1.0, 1.0)).save(tmp_path / "layers", folders)
    (tmp_path / "merged").mkdir()
    write_merged(load_model(toy.base), folders, (1.0, 1.0), tmp_path / "merged")
    ids_BT = torch.tensor([[5, 9, 12, 7]])
    one, other = (
        load_model(toy.base.changed(adapter=tmp_path / name))(input_ids=ids_BT).logits for name in ("layers", "merged")
    )
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("texts", "place"),
    [
        (["a", "b", "b"], 1),
        (["a", "b", "a"], 0),
        (["a", "b", "c"], 0),  # nobody agrees: the first in the order
        (["b", "a", "c", "a", "c"], 1),  # two have two votes: the one that was given first
        (["x", " b\n", "b"], 1),
        (["x", "e\u0301", "\u00e9"], 1),  # one letter, written in two ways
        (["x", "B", "b"], 0),
        (["", "", "b"], 0),
    ],
)
def test_the_answer_with_most_votes_wins_and_the_order_decides_ties(texts, place):
    assert elected(texts) == place


def test_a_vote_is_over_the_members_own_whole_answers(toy, adapters, alone, tmp_path):
    model = load_model(together(toy, adapters, tmp_path, "vote"))
    assert votes(model)
    examples = [ask(f"{verb} {size} sea", "x") for verb in ("feed", "paint", "place") for size in ("big", "old")]
    apart = [answer_all(one, toy.tokenizer, examples, DECODING) for one in alone]
    expected = [said[elected([one.text for one in said])] for said in zip(*apart, strict=True)]
    done: list[int] = []
    assert answer_all(model, toy.tokenizer, examples, DECODING, advance=done.append) == expected
    assert sum(done) == len(examples)
    assert any(len({one.text for one in said}) > 1 for said in zip(*apart, strict=True)), "or nobody need vote"
    answers, losses = answers_and_losses(model, toy.tokenizer, examples, DECODING)
    assert answers == expected
    mean = load_model(together(toy, adapters, tmp_path / "mean", "mean"))
    for loss, other in zip(losses, answer_losses(mean, toy.tokenizer, examples, 64), strict=True):
        assert loss.nll == pytest.approx(other.nll, rel=1e-5)  # a vote has no probabilities of its own


def test_a_choice_is_voted_on_too(toy, adapters, alone, tmp_path):
    model = load_model(together(toy, adapters, tmp_path, "vote"))
    decoding = Decoding(max_new_tokens=4, max_length=64, options=("hay", "red", "hill"))
    examples = [ask(f"feed {size} {thing}", "hay") for size in ("big", "old") for thing in ("sea", "cat", "sun")]
    apart = [choose_all(one, toy.tokenizer, examples, decoding)[0] for one in alone]
    expected = [said[elected([one.text for one in said])].text for said in zip(*apart, strict=True)]
    assert [one.text for one in choose_all(model, toy.tokenizer, examples, decoding)[0]] == expected


def test_nothing_of_a_vote_is_there_before_its_end(toy, adapters, tmp_path):
    model = load_model(together(toy, adapters, tmp_path / "vote", "vote"))
    row = ask("feed big cat", "hay")
    timing = time_answer(model, toy.tokenizer, row, DECODING)
    assert timing.token_s is None  # all of it came at one moment
    assert timing.total_s >= timing.first_token_s > 0
    several = time_tokens(model, toy.tokenizer, row, DECODING)
    assert several.total_s == several.first_token_s
    assert several.token_s is not None
    mean = load_model(together(toy, adapters, tmp_path / "mean", "mean"))
    alike = time_tokens(mean, toy.tokenizer, row, DECODING)
    assert alike.total_s > alike.first_token_s


def test_what_lies_in_the_folder_is_the_members_byte_for_byte(toy, adapters, tmp_path):
    weights = together(toy, adapters, tmp_path, "mean", SHARES)
    assert (weights.ensemble, weights.routed, weights.several) == (True, False, "several adapters that answer together")
    for name, folder in zip(NAMES, adapters, strict=True):
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            assert (tmp_path / name / file).read_bytes() == (folder / file).read_bytes()
    assert Plan.load(tmp_path) == Plan("mean", NAMES, SHARES)
    assert (Plan.load(tmp_path).passes, Plan("layers", NAMES, SHARES).passes) == (3, 1)
    for torn in ("{", json.dumps({"format": 1, "by": "luck", "members": [{"name": "a", "weight": 1}]})):
        (tmp_path / ENSEMBLE).write_text(torn)
        with pytest.raises(NacreError, match="cannot be read"):
            Plan.load(tmp_path)
    outside = {"format": 1, "by": "mean", "members": [{"name": "../member", "weight": 1}]}
    (tmp_path / ENSEMBLE).write_text(json.dumps(outside))
    with pytest.raises(NacreError, match="cannot be read"):
        Plan.load(tmp_path)
    (tmp_path / ENSEMBLE).write_text(json.dumps({"format": 9}))
    with pytest.raises(NacreError, match="another format"):
        Plan.load(tmp_path)


def test_what_asks_for_one_model_says_so(toy, adapters, tmp_path):
    weights = together(toy, adapters, tmp_path, "mean")
    with pytest.raises(InputError, match="several adapters that answer together") as refused:
        whole_model(weights)
    assert "--by merge" in refused.value.fix
    with pytest.raises(InputError, match="are no single model, which gguf needs"):
        refuse_unmergeable(weights, "gguf")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"peft_type": "IA3"}, "an adapter of the kind IA3"),
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "trained biases"),
        ({"modules_to_save": ["lm_head"]}, "whole modules"),
        ({"init_lora_weights": "pissa"}, "moves the base"),
    ],
)
def test_only_plain_adapters_stand_beside_each_other(adapters, tmp_path, change, said):
    check_member(adapters[0], "version 1")
    config = json.loads((adapters[0] / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | change))
    with pytest.raises(InputError, match=said) as refused:
        check_member(tmp_path, "version 1")
    assert refused.value.where == "version 1"
