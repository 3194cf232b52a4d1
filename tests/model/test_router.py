"""The router's arithmetic, and the model that it stands before."""

import json
import os
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from sklearn.covariance import OAS
from transformers import DynamicCache

from nacre.base.errors import NacreError
from nacre.model.chat import prompt_ids, shorten
from nacre.model.load import load_model, load_tokenizer
from nacre.model.losses import text_losses
from nacre.model.routed import Routed
from nacre.model.router import BASE, Router, read_prompts, shrunk
from nacre.records import Message, Weights
from nacre.records.weights import ROUTER
from toy_kit import make_model, make_tokenizer

D = 12


def prompts_of(task: int, count: int, seed: int = 0) -> torch.Tensor:
    """Points around the task's own place, with one long direction that tells nothing."""
    draw = torch.Generator().manual_seed(100 * task + seed)
    points_ND = torch.randn(count, D, generator=draw, dtype=torch.double)
    points_ND[:, 0] *= 50
    points_ND[:, 1 + task] += 6
    return points_ND


@pytest.fixture(scope="module")
def router() -> Router:
    router = Router()
    for task in range(3):
        router = router.with_task(f"t{task}", f"adapter_{task}", prompts_of(task, 60))
    return router


def test_tasks_are_told_apart_across_a_direction_that_tells_nothing(router):
    for task in range(3):
        assert router.choose(prompts_of(task, 100, seed=1)).count(f"adapter_{task}") >= 98
    means_KD = router.mean_KD
    nearest = torch.cdist(prompts_of(0, 100, seed=1), means_KD).argmin(-1)
    assert (nearest == 0).double().mean() < 0.9, "plain distance must fail here, or the test shows nothing"


def test_shrinkage_is_scikit_learns():
    points_ND = torch.randn(40, 400, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    points_ND *= torch.linspace(0.5, 3, 400)
    expected = OAS(assume_centered=True).fit(points_ND.numpy())
    assert 0.1 < expected.shrinkage_ < 0.99
    found = shrunk(points_ND.T @ points_ND, 40)
    # scikit-learn leaves out the terms 2 / D, which are small here
    torch.testing.assert_close(found, torch.tensor(expected.covariance_), rtol=0.02, atol=0.02)
    assert torch.linalg.eigvalsh(shrunk(torch.zeros(4, 4).double(), 0)).min() > 0
    one_DD = torch.outer(points_ND[0], points_ND[0])  # a single prompt's
    assert torch.linalg.eigvalsh(shrunk(one_DD, 1)).min() > 0


def test_prompts_of_a_known_task_are_added_as_if_all_had_come_at_once(router):
    parts = prompts_of(1, 60)
    split = Router().with_task("t0", "a", prompts_of(0, 60)).with_task("t1", "b", parts[:13])
    split = split.with_task("t2", "c", prompts_of(2, 60)).with_task("t1", "d", parts[13:])
    torch.testing.assert_close(split.mean_KD, router.mean_KD)
    torch.testing.assert_close(split.scatter_DD, router.scatter_DD)
    assert [(route.adapter, route.prompts) for route in split.routes] == [("a", 60), ("d", 60), ("c", 60)]


def test_what_is_farther_than_every_prompt_set_aside_is_unknown():
    aside_PD = prompts_of(0, 64, seed=2)
    router = Router(unknown="base").with_task("t0", "own", prompts_of(0, 300), aside_PD)
    assert router.needs_reading
    assert router.choose(prompts_of(0, 300, seed=3)).count(BASE) <= 15
    assert router.choose(prompts_of(0, 50, seed=3) + 20).count(BASE) == 50
    unlimited = router.with_task("t1", "other", prompts_of(1, 300))
    assert unlimited.choose(prompts_of(1, 50) * 1.5).count(BASE) == 0, "nothing was set aside for this one"


def test_it_is_written_and_read(router, tmp_path):
    kept = Router(router.routes, router.mean_KD, router.scatter_DD, {"t1": prompts_of(1, 5)}, "base")
    kept.save(tmp_path, {"adapter_0": "hash"})
    again = Router.load(tmp_path)
    assert (again.routes, again.unknown, set(again.aside_PD)) == (kept.routes, "base", {"t1"})
    points = prompts_of(2, 20)
    torch.testing.assert_close(again.distances(points), kept.distances(points), rtol=1e-4, atol=1e-4)
    (tmp_path / "router.safetensors").write_bytes(b"torn")
    with pytest.raises(NacreError, match="cannot be read"):
        Router.load(tmp_path)
    (tmp_path / ROUTER).write_text(json.dumps({"format": 99}))
    with pytest.raises(NacreError, match="another format"):
        Router.load(tmp_path)


def test_what_is_read_of_a_prompt_does_not_depend_on_its_neighbours():
    model = make_model(make_tokenizer()).eval()
    prompts = [[6, 7, 8], [9] * 40, [10], [11, 12] * 9]
    together = read_prompts(model, prompts)
    alone = torch.cat([read_prompts(model, [prompt]) for prompt in prompts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    plain = model(torch.tensor([prompts[0]]), output_hidden_states=True).hidden_states[-1].mean(1)
    torch.testing.assert_close(together[:1].float(), plain, atol=1e-5, rtol=1e-5)


NAMES = ("adapter_1", "adapter_2")


@pytest.fixture(scope="module")
def routed(tmp_path_factory) -> Routed:
    """Two adapters of chance on a model of chance; a prompt of even tokens is the first's, of odd ones the second's."""
    model = make_model(make_tokenizer())
    read = {
        name: read_prompts(model.eval(), [own(place, row) for row in range(20)]) for place, name in enumerate(NAMES)
    }
    config = {"r": 4, "target_modules": "all-linear", "init_lora_weights": False, "task_type": "CAUSAL_LM"}
    torch.manual_seed(1)
    peft = get_peft_model(model, LoraConfig(**config), adapter_name=NAMES[0])
    peft.add_adapter(NAMES[1], LoraConfig(**config))
    router = Router()
    for name in NAMES:
        router = router.with_task(name, name, read[name])
    return Routed(peft, router)


def own(place: int, row: int) -> list[int]:
    draw = torch.Generator().manual_seed(row)
    return (torch.randint(3, 14, (3 + row % 5,), generator=draw) * 2 + place).tolist()


def alone(routed: Routed, name: str, ids: list[int]) -> torch.Tensor:
    """Logits of one row through one adapter, as PEFT by itself gives them."""
    with torch.no_grad():
        return routed.peft(input_ids=torch.tensor([ids]), adapter_names=[name]).logits[0]


def padded(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    return (
        torch.tensor([[0] * (width - len(row)) + row for row in rows]),
        torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows]),
    )


@torch.no_grad()
def test_each_row_of_a_batch_goes_through_its_own_adapter(routed):
    rows = [own(place, row) for row in range(30, 34) for place in (0, 1)]
    assert routed.choose(rows) == list(NAMES) * 4
    ids_BT, mask_BT = padded(rows)
    positions_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)
    logits_BV = routed(input_ids=ids_BT, attention_mask=mask_BT, position_ids=positions_BT).logits[:, -1]
    for row, (ids, name) in enumerate(zip(rows, list(NAMES) * 4, strict=True)):
        torch.testing.assert_close(logits_BV[row], alone(routed, name, ids)[-1], atol=1e-4, rtol=1e-4)
        other = alone(routed, NAMES[1 - NAMES.index(name)], ids)[-1]
        assert (logits_BV[row] - other).abs().max() > 1e-2


@torch.no_grad()
def test_a_row_keeps_its_adapter_when_others_leave_the_batch_and_whatever_it_says(routed):
    rows = [own(0, 30)[:3], own(1, 31)[:3], own(0, 32)[:3]]
    first = routed(input_ids=torch.tensor(rows), use_cache=True)
    cache = first.past_key_values
    cache.reorder_cache(torch.tensor([2, 1]))
    said = [[7, 9, 11], [6, 8, 10]]  # what the other adapter's prompts are made of
    for step in range(3):
        next_B1 = torch.tensor([[said[0][step]], [said[1][step]]])
        logits_BV = routed(input_ids=next_B1, past_key_values=cache).logits[:, -1]
    for row, (ids, name) in enumerate(((rows[2] + said[0], NAMES[0]), (rows[1] + said[1], NAMES[1]))):
        torch.testing.assert_close(logits_BV[row], alone(routed, name, ids)[-1], atol=1e-4, rtol=1e-4)
    with pytest.raises(NacreError, match="does not say which adapter"):
        routed(input_ids=torch.tensor([[5]]), past_key_values=cache)


@torch.no_grad()
def test_a_cache_of_the_callers_own_is_remembered(routed):
    cache, ids = DynamicCache(config=routed.config), own(1, 33)
    routed(input_ids=torch.tensor([ids]), past_key_values=cache, use_cache=True)
    found = routed(input_ids=torch.tensor([[6]]), past_key_values=cache).logits[0, -1]
    torch.testing.assert_close(found, alone(routed, NAMES[1], [*ids, 6])[-1], atol=1e-4, rtol=1e-4)
    foreign = routed.get_base_model()(input_ids=torch.tensor([ids]), use_cache=True).past_key_values
    with pytest.raises(NacreError, match="begin with an empty cache"):
        routed(input_ids=torch.tensor([[6]]), past_key_values=foreign)


@torch.no_grad()
def test_the_answer_has_no_part_in_the_choice(routed):
    """As a mask says what is asked for, and as labels do."""
    prompt, answer = own(0, 34), [7, 9, 11, 13, 15, 17, 19, 21]  # the answer alone would go to the second
    ids_BT = torch.tensor([prompt + answer])
    asked_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
    asked_BT[:, len(prompt) - 1 : -1] = True
    expected = alone(routed, NAMES[0], prompt + answer)[asked_BT[0]]
    found = routed(input_ids=ids_BT, use_cache=False, logits_to_keep=asked_BT).logits
    torch.testing.assert_close(found.reshape(expected.shape), expected, atol=1e-4, rtol=1e-4)
    labels_BT = torch.cat([torch.full((1, len(prompt)), -100), torch.tensor([answer])], dim=1)
    by_labels = routed(input_ids=ids_BT, labels=labels_BT, use_cache=False).logits[0][asked_BT[0]]
    torch.testing.assert_close(by_labels, expected, atol=1e-4, rtol=1e-4)


def test_plain_text_is_read_whole(routed):
    tokenizer = make_tokenizer()
    ids = own(1, 35) * 3
    [found] = text_losses(routed, tokenizer, [tokenizer.decode(ids)], 64)
    read = [*tokenizer(tokenizer.decode(ids))["input_ids"], tokenizer.eos_token_id]
    logits_TV = alone(routed, NAMES[1], read)
    expected = torch.nn.functional.cross_entropy(logits_TV[:-1], torch.tensor(read[1:]), reduction="sum")
    assert found.nll == pytest.approx(float(expected), rel=1e-4)


@torch.no_grad()
def test_transformers_generation_goes_through_each_rows_adapter(routed):
    rows = [own(0, 36)[:3], own(1, 37)[:3]]
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    for more in ({}, {"num_beams": 2}):
        together = routed.generate(
            input_ids=torch.tensor(rows), attention_mask=torch.ones(2, 3).long(), **options, **more
        )
        for row, ids in enumerate(rows):
            one = routed.generate(
                input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, 3).long(), **options, **more
            )
            assert together[row, : one.shape[1]].tolist() == one[0].tolist()


@torch.no_grad()
def test_below_the_router_stands_the_base_whatever_was_answered_before(routed):
    ids_BT = torch.tensor([own(0, 38)])
    plain = make_model(make_tokenizer()).eval()(ids_BT).logits
    routed(input_ids=ids_BT)
    torch.testing.assert_close(routed.get_base_model()(ids_BT).logits, plain, atol=1e-5, rtol=1e-5)
    assert not routed.train().training


def test_loaded_from_the_disk_it_is_the_same(routed, tmp_path):
    base = tmp_path / "base"
    make_model(make_tokenizer()).save_pretrained(base)
    make_tokenizer().save_pretrained(base)
    routed.save_pretrained(tmp_path / "adapters")
    again = load_model(Weights(identity="x", model=str(base), adapter=tmp_path / "adapters"))
    assert isinstance(again, Routed)
    ids_BT, mask_BT = padded([own(0, 39), own(1, 40)])
    with torch.no_grad():
        torch.testing.assert_close(
            again(input_ids=ids_BT, attention_mask=mask_BT).logits,
            routed(input_ids=ids_BT, attention_mask=mask_BT).logits,
        )


@pytest.fixture(scope="module")
def shared() -> Path:
    folder = Path(os.environ.get("NACRE_SHARED", Path(__file__).parents[3] / "shared"))
    if not (folder / "data" / "tasks").is_dir():
        pytest.skip("needs the shared data folder (NACRE_SHARED)")
    return folder


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("name", ["bilingual-700k", "stories260k"])
def test_real_tasks_are_told_apart_on_two_models(shared, name):
    """A few rows of each suffice: at least 97 of 100 prompts that were not read go to their own task."""
    tasks = ["sst2", "agnews", "dbpedia"] + (
        ["waimai_zh", "thucnews_zh"] if name.startswith("bilingual") else ["boolq"]
    )
    weights = Weights(identity=name, model=str(shared / "models" / name))
    model, tokenizer = load_model(weights), load_tokenizer(weights)

    def read(task: str, split: str, rows: int) -> torch.Tensor:
        lines = (shared / "data" / "tasks" / task / f"{split}.json").read_text(encoding="utf-8").splitlines()[:rows]
        texts = ["\n".join(filter(None, (row["instruction"], row["input"]))) for row in map(json.loads, lines)]
        asked = [(Message(role="user", content=text),) for text in texts]
        return read_prompts(model, [shorten(prompt_ids(one, tokenizer), 220) for one in asked])

    router = Router()
    for task in tasks:
        router = router.with_task(task, task, read(task, "train", 60))
    right = sum(router.choose(read(task, "dev", 40)).count(task) for task in tasks)
    assert right >= 0.97 * 40 * len(tasks)
