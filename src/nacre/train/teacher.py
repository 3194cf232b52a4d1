"""The previous version as a teacher: a frozen copy, or the same base seen through its old adapter."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from nacre.model.ensemble import Ensemble
from nacre.model.head import next_token_logits
from nacre.model.load import load_model
from nacre.model.routed import Routed
from nacre.records import Weights
from nacre.train.padding import unpadded

PREVIOUS = "previous"  # name of the old adapter inside a model that trains a new one


class FrozenCopy:
    """The previous version in memory beside the one that trains."""

    def __init__(self, weights: Weights, device: torch.device) -> None:
        model = load_model(weights)
        model.requires_grad_(False)
        self._several = model if isinstance(model, Routed | Ensemble) else None
        self._causal = (model.get_base_model() if hasattr(model, "get_base_model") else model).to(device)

    @torch.no_grad()
    def logits(
        self, input_ids_BT: torch.Tensor, attention_mask_BT: torch.Tensor, where_BT: torch.Tensor
    ) -> torch.Tensor:
        """Logits [P, V] at the positions where `where_BT` is true."""
        if self._several is not None:
            given = {"attention_mask": attention_mask_BT, "use_cache": False, "logits_to_keep": where_BT}
            found_PV: torch.Tensor = self._several(input_ids=input_ids_BT, **given).logits
            return found_PV
        decoder = self._causal.get_decoder()
        with unpadded(self._causal):
            output = decoder(input_ids=input_ids_BT, attention_mask=attention_mask_BT, use_cache=False)
        return next_token_logits(self._causal, output.last_hidden_state[where_BT])


class SameBase:
    """The previous version shares its base with the one that trains: no second copy in memory."""

    def __init__(self, model: Any, previous: Weights) -> None:
        self._model = model
        self._has_adapter = previous.adapter is not None
        if previous.adapter is not None:
            training = model.training
            with left_marked(model):
                model.load_adapter(str(previous.adapter), adapter_name=PREVIOUS, is_trainable=False)
                model.set_adapter("default")
            model.train(training)  # loading one that is not trained ends the whole model's training mode

    @torch.no_grad()
    def logits(
        self, input_ids_BT: torch.Tensor, attention_mask_BT: torch.Tensor, where_BT: torch.Tensor
    ) -> torch.Tensor:
        """Logits [P, V] at the positions where `where_BT` is true."""
        causal = self._model.get_base_model()
        with self._as_previous():
            output = causal.get_decoder()(input_ids=input_ids_BT, attention_mask=attention_mask_BT, use_cache=False)
            return next_token_logits(causal, output.last_hidden_state[where_BT])

    @contextmanager
    def _as_previous(self) -> Iterator[None]:
        training = self._model.training
        self._model.eval()  # the teacher has no dropout
        with left_marked(self._model):
            try:
                if self._has_adapter:
                    self._model.set_adapter(PREVIOUS, inference_mode=True)
                    yield
                else:
                    with self._model.disable_adapter():
                        yield
            finally:
                if self._has_adapter:
                    self._model.set_adapter("default")
                self._model.train(training)


@contextmanager
def left_marked(model: Any) -> Iterator[None]:
    """Which parameters train is afterwards as it was: PEFT marks a whole adapter when it is switched on again, what a
    protection has frozen of it included.
    """
    marked = [(weight, weight.requires_grad) for weight in model.parameters()]
    try:
        yield
    finally:
        for weight, trains in marked:
            weight.requires_grad_(trains)
