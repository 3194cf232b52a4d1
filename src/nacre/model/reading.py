"""Prompts read once: what all of them begin with, the rest of each, and whatever is asked about them afterwards.

Shape suffixes: B rows, P tokens that all prompts begin with, W tokens of the longest prompt, T tokens of a forward
pass, R tokens of the longest continuation less one, N asked positions of the whole batch, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from transformers.cache_utils import DynamicCache, DynamicLayer

from nacre.model.ensemble import Ensemble
from nacre.model.prompts import has_prompts

_LEAST_SHARED = 8  # tokens; below it the second forward pass costs more than it saves


@dataclass
class Reading:
    """A model that has read a batch of prompts, and its keys and values.

    Attributes:
        cache: of all rows; prompts of unequal length are filled up with ignored positions before their own part.
        mask_BW: 1 where a position counts.
        next_B: the position number of the token that follows each prompt.
        last_BV: logits of that token.
    """

    model: Any
    cache: Any
    mask_BW: torch.Tensor
    next_B: torch.Tensor
    last_BV: torch.Tensor

    @property
    def can_go_back(self) -> bool:
        """Whether what is read beyond the prompts can be taken back, so that something else can be read there."""
        return _simple(self.model) and isinstance(self.cache, DynamicCache) and _plain_layers(self.cache)

    def losses(self, continuations: Sequence[Sequence[int]], repeats: int = 1) -> list[float]:
        """The negative log-likelihood, in nats, of a text after each prompt, summed over its tokens.

        Args:
            continuations: tokens of `repeats` texts for each row, a row's texts together; none is empty.
            repeats: with more than one, nothing else can be asked of this reading afterwards.
        """
        if repeats > 1:
            self.cache.batch_repeat_interleave(repeats)
        rows_B = torch.arange(len(continuations), device=self.mask_BW.device) // repeats
        first_B = torch.tensor([tokens[0] for tokens in continuations], device=self.mask_BW.device)
        found_B = F.cross_entropy(self.last_BV[rows_B].float(), first_B, reduction="none").double()
        width = max(map(len, continuations)) - 1
        if width:
            found_B = found_B + self._later(continuations, rows_B, width)
        return [float(loss) for loss in found_B.cpu()]

    def _later(self, continuations: Sequence[Sequence[int]], rows_B: torch.Tensor, width: int) -> torch.Tensor:
        """Summed losses [B] of every token after the first; the cache is afterwards what it was before."""
        device = self.mask_BW.device
        fed = [[*tokens[:-1], *[0] * (width + 1 - len(tokens))] for tokens in continuations]
        counts_B = torch.tensor([len(tokens) - 1 for tokens in continuations], device=device)
        asked_BR = torch.arange(width, device=device) < counts_B[:, None]
        targets_N = torch.tensor([token for tokens in continuations for token in tokens[1:]], device=device)
        output = self.model(
            input_ids=torch.tensor(fed, device=device),
            attention_mask=torch.cat([self.mask_BW[rows_B], asked_BR.to(self.mask_BW.dtype)], dim=1),
            position_ids=self.next_B[rows_B][:, None] + torch.arange(width, device=device),
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=asked_BR,
        )
        self.cache.crop(-width)
        losses_N = F.cross_entropy(output.logits.float(), targets_N, reduction="none").double()
        owner_N = torch.repeat_interleave(torch.arange(len(continuations), device=device), counts_B)
        return torch.zeros(len(continuations), dtype=torch.double, device=device).index_add(0, owner_N, losses_N)


def read_prompts_once(model: Any, prompts: Sequence[Sequence[int]]) -> Reading:
    """Read a batch of prompts; what all begin with is read once for all of them, where the model allows it."""
    device = model.device
    shared = _shared(model, prompts)
    cache = _read_shared(model, prompts[0][:shared], len(prompts)) if shared else None
    width = max(map(len, prompts))
    pads = [width - len(prompt) for prompt in prompts]
    own = [[0] * pad + list(prompt[shared:]) for pad, prompt in zip(pads, prompts, strict=True)]
    mask_BW = torch.tensor([[1] * shared + [0] * pad + [1] * (width - pad - shared) for pad in pads], device=device)
    position_ids_BW = (mask_BW.cumsum(-1) - 1).clamp(min=0)
    output = model(
        input_ids=torch.tensor(own, device=device),
        attention_mask=mask_BW,
        position_ids=position_ids_BW[:, shared:],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return Reading(model, output.past_key_values, mask_BW, position_ids_BW[:, -1] + 1, output.logits[:, -1])


def _shared(model: Any, prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens are read once for all: at least one of each prompt is left to be read by itself."""
    if len(prompts) < 2 or not _simple(model) or not _plain_layers(_empty(model)):
        return 0
    in_order = sorted(map(list, prompts))
    first, last = in_order[0], in_order[-1]  # what these two begin with, all do
    most = min(map(len, prompts)) - 1
    shared = next((place for place in range(most) if first[place] != last[place]), most)
    return shared if shared >= _LEAST_SHARED else 0


def _read_shared(model: Any, tokens: Sequence[int], rows: int) -> DynamicCache:
    """Keys and values of what all rows begin with, for every row."""
    cache = _empty(model)
    input_ids_BT = torch.tensor([list(tokens)], device=model.device)
    model(input_ids=input_ids_BT, past_key_values=cache, use_cache=True, logits_to_keep=1)
    cache.batch_repeat_interleave(rows)
    return cache


def _empty(model: Any) -> DynamicCache:
    return DynamicCache(config=model.config)


def _simple(model: Any) -> bool:
    """Whether every row goes through the same weights, and what is read is the tokens alone."""
    return not (hasattr(model, "choose") or isinstance(model, Ensemble) or has_prompts(model))


def _plain_layers(cache: DynamicCache) -> bool:
    """Whether every layer keeps all positions: a sliding window or a state cannot be gone back from."""
    return all(type(layer) is DynamicLayer for layer in cache.layers)
