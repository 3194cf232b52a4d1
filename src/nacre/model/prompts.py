"""Virtual tokens before every text, put there where the decoder is called.

PEFT's own wrapper makes hidden states and logits longer by the virtual tokens, adds them again at every generated
token, and cannot go on training what was saved. Here they are added by hooks on the decoder: whoever calls it, with a
cache or without, on padded batches or single rows, gets back exactly the positions that were asked for. What is saved
is PEFT's format, and PEFT alone computes the same from it.

Shapes: B rows, T tokens of a row, N virtual tokens, D hidden size.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModelForCausalLM, PeftType

KINDS = (PeftType.PROMPT_TUNING, PeftType.P_TUNING, PeftType.PREFIX_TUNING)


def has_prompts(model: Any) -> bool:
    """Whether a loaded model stands behind virtual tokens."""
    return isinstance(model, PromptLearned)


@contextmanager
def as_it_began(model: Any, fresh: bool) -> Iterator[None]:
    """The block asks the version that training starts from, before the first step.

    A new adapter changes nothing yet, but `fresh` virtual tokens are drawn at random: they are not heard meanwhile.
    """
    with model.disable_adapter() if fresh and isinstance(model, PromptLearned) else nullcontext():
        yield


class PromptLearned(PeftModelForCausalLM):
    """A causal model behind virtual tokens (prompt and p-tuning) or behind keys and values (prefix tuning)."""

    def __init__(self, model: Any, peft_config: Any, adapter_name: str = "default", **options: Any) -> None:
        super().__init__(model, peft_config, adapter_name, **options)
        self._heard = True
        self._added = 0
        config = model.config.get_text_config()
        known = getattr(config, "max_position_embeddings", None)
        if known:
            config.max_position_embeddings = known - peft_config.num_virtual_tokens  # what is left for the text
        decoder = model.get_decoder()
        decoder.register_forward_pre_hook(self._before, with_kwargs=True)
        decoder.register_forward_hook(self._after)

    def forward(self, *args: Any, **given: Any) -> Any:
        """The base model's forward; the decoder's hooks add the virtual tokens."""
        return self.base_model(*args, **given)

    def generate(self, *args: Any, **given: Any) -> Any:
        """The base model's generation, for the same reason."""
        return self.base_model.generate(*args, **given)

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """Ask the base model without virtual tokens while the block runs."""
        self._heard = False
        try:
            yield
        finally:
            self._heard = True

    def set_adapter(self, adapter_name: str, inference_mode: bool = False) -> None:
        """Choose whose virtual tokens are heard; those of the others do not train meanwhile."""
        super().set_adapter(adapter_name)
        for name, encoder in self.prompt_encoder.items():
            encoder.requires_grad_(name == adapter_name and not inference_mode)

    def _before(self, decoder: Any, args: Any, given: dict[str, Any]) -> Any:
        self._added = 0
        if not self._heard:
            return None
        given = dict(given)
        cache = given.get("past_key_values")
        tokens_BT = given.get("input_ids")
        size_BT = tokens_BT.shape if tokens_BT is not None else given["inputs_embeds"].shape[:2]
        virtual = self.active_peft_config.num_virtual_tokens
        mask_BT = given.get("attention_mask")
        if mask_BT is not None:
            given["attention_mask"] = torch.cat([mask_BT.new_ones(len(mask_BT), virtual), mask_BT], dim=1)
        if given.get("position_ids") is not None:
            given["position_ids"] = given["position_ids"] + virtual
        if cache is not None and cache.get_seq_length() > 0:
            return args, given
        if self.active_peft_config.peft_type == PeftType.PREFIX_TUNING:
            given["past_key_values"] = _filled(cache, self.get_prompt(size_BT[0]))
            return args, given
        text_BTD = given.get("inputs_embeds")
        text_BTD = decoder.get_input_embeddings()(tokens_BT) if text_BTD is None else text_BTD
        virtual_BND = self.get_prompt(size_BT[0]).to(text_BTD)
        given |= {"input_ids": None, "inputs_embeds": torch.cat([virtual_BND, text_BTD], dim=1)}
        if given.get("position_ids") is not None:
            first_N = torch.arange(virtual, device=text_BTD.device).expand(len(given["position_ids"]), -1)
            given["position_ids"] = torch.cat([first_N, given["position_ids"]], dim=1)
        self._added = virtual
        return args, given

    def _after(self, decoder: Any, args: Any, output: Any) -> Any:
        if self._added:
            output.last_hidden_state = output.last_hidden_state[:, self._added :]
            if getattr(output, "hidden_states", None):
                output.hidden_states = tuple(layer_BTD[:, self._added :] for layer_BTD in output.hidden_states)
        return output


def _filled(cache: Any, prefix: Any) -> Any:
    """The caller's cache, if there is one, begun with the prefix."""
    if cache is None:
        return prefix
    for place, layer in enumerate(prefix.layers):
        cache.update(layer.keys, layer.values, place)
    return cache


def learns_prompts(adapter: Path) -> bool:
    """Whether the adapter in this folder is virtual tokens."""
    return PeftConfig.from_pretrained(str(adapter)).peft_type in KINDS


def load_prompts(model: Any, adapter: Path, *, train: bool) -> PromptLearned:
    """The model behind the saved virtual tokens. What p-tuning saved are its tokens, and they alone train on."""
    config = PeftConfig.from_pretrained(str(adapter))
    config.inference_mode = not train or config.peft_type == PeftType.P_TUNING
    learned = PromptLearned(model, config)
    learned.load_adapter(str(adapter), "default", is_trainable=False)
    learned.requires_grad_(False)
    learned.set_adapter("default", inference_mode=not train)
    return learned
