"""lm-evaluation-harness scores a served version as it scores the model itself: ids, echo, log probabilities."""

import pytest
import torch
from conformance_kit import KEY
from serving_kit import Place, Shelf
from transformers import AutoModelForCausalLM, AutoTokenizer

from nacre.model.building import BUILDING

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")

from lm_eval.api.instance import Instance  # only where it is installed
from lm_eval.models.openai_completions import LocalCompletionsAPI  # the same

PAIRS = [("layer by layer, ", "one layer more"), ("Human: ", "nacre?"), ("1234", "567"), ("珍珠", "母")]


@pytest.fixture
def harness(served: tuple[str, Place], shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> LocalCompletionsAPI:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    folder = str(shelf.folders[0])
    options = {"tokenizer": folder, "tokenizer_backend": "huggingface", "max_retries": 1}
    return LocalCompletionsAPI(model="bot", base_url=f"{served[0]}/v1/completions", **options)


def _requests(kind: str, arguments: list[tuple[object, ...]]) -> list[Instance]:
    return [Instance(kind, {}, given, place) for place, given in enumerate(arguments)]


def test_likelihoods_are_those_of_the_model(harness: LocalCompletionsAPI, shelf: Shelf) -> None:
    with BUILDING:  # the server loads its other version meanwhile
        model = AutoModelForCausalLM.from_pretrained(shelf.folders[0], dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(shelf.folders[0])
    for (context, target), (found, greedy) in zip(
        PAIRS, harness.loglikelihood(_requests("loglikelihood", list(PAIRS)), disable_tqdm=True), strict=True
    ):
        known = tokenizer(context.rstrip(" "), add_special_tokens=False)["input_ids"]
        ids = tokenizer(context + target, add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            logprobs_TV = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        places = range(len(known), len(ids))
        assert found == pytest.approx(sum(float(logprobs_TV[place - 1, ids[place]]) for place in places), abs=1e-2)
        assert greedy == all(int(logprobs_TV[place - 1].argmax()) == ids[place] for place in places)


def test_texts_are_generated_up_to_a_stop(harness: LocalCompletionsAPI) -> None:
    asked = [("layer by", {"until": ["zzz"], "max_gen_toks": 5, "do_sample": False})]
    assert isinstance(harness.generate_until(_requests("generate_until", asked), disable_tqdm=True)[0], str)
