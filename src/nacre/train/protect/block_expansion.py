"""Block expansion: new blocks learn, the old ones stay as they are.

Source: Wu et al. 2024, LLaMA Pro (arXiv 2401.02415), section 3: the blocks are cut into as many groups as there are
new blocks, and above each group comes a copy of its last block whose two output projections are zero. What such a
block adds is exactly nothing, so the model answers as before until it is trained; then the new blocks alone train.
The model grows: each increment that asks for it adds blocks again, and each block costs memory and time for good.
Nothing old is overwritten, but the new blocks can still change every answer: keep it company with replay.
Cost: the forward pass of the new blocks; gradients and optimizer state of these alone, which is less than plain
training needs.
"""

from copy import deepcopy
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from nacre.base.config import Settings
from nacre.base.errors import InputError
from nacre.model.load import decoder_layers
from nacre.train.protect.base import Protection

# what a block adds to the residual stream comes out of modules that go by one of these names
OUTPUTS = ("o_proj", "out_proj", "down_proj", "dense", "dense_4h_to_h", "c_proj", "fc2", "w2", "wo")
PER_LAYER = ("layer_types", "mlp_layer_types", "layers_block_type", "no_rope_layers")  # lists in configurations
_OWN_CHOICE = "both decide which part of the weights trains"
_FEWER = "the version before has fewer blocks, so its weights cannot be averaged with these"


class BlockExpansion(Protection):
    """Insert blocks that add nothing at first, and train these alone."""

    name = "block-expansion"
    pictures = True
    tuners = ("full",)
    stages = ("sft", "pt", "dpo", "kto")  # a reward model's new head would be frozen as it was drawn
    contradicts: ClassVar[dict[str, str]] = {
        "freeze": _OWN_CHOICE,
        "osf": _OWN_CHOICE,
        "average": _FEWER,
        "merge": _FEWER,
    }
    reshapes = True

    class Config(Settings):
        """Options of block expansion."""

        blocks: int = Field(1, ge=1, description="new blocks, put in at equal distances")

    def model(self, model: Any) -> Any:
        """Put the new blocks in.

        Raises:
            InputError: more new blocks than old ones, or a kind of model whose blocks cannot be made to add nothing.
        """
        layers = decoder_layers(model)
        if self.config.blocks > len(layers):
            raise InputError(
                f"{self.config.blocks} new blocks for a model of {len(layers)}",
                where="protect: block-expansion, blocks",
                fix=f"at most {len(layers)}: each new block is a copy of an old one",
            )
        before = _probe(model)
        places = expand(model, self.config.blocks)
        if not torch.equal(before, _probe(model)):
            raise InputError(
                f"the new blocks of {type(model).__name__} would change its answers before any training",
                where="protect: block-expansion",
                fix="leave it out; 'freeze' or replay work with every model",
            )
        model.requires_grad_(False)
        for place in places:
            decoder_layers(model)[place].requires_grad_(True)
        trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        numbers = ", ".join(str(place + 1) for place in places)
        total = len(decoder_layers(model))
        new = f"new block{'s' * (len(places) > 1)} number {numbers} of now {total}"
        self.notes.append(f"block-expansion: {new}; nothing else trains: {trained:,} parameters")
        return model


def expand(model: Any, blocks: int) -> list[int]:
    """Insert copies that add nothing; returns their places, counted from 0."""
    old = list(decoder_layers(model))
    tops = [round((group + 1) * len(old) / blocks) - 1 for group in range(blocks)]
    layers: list[nn.Module] = []
    order: list[int] = []
    places = []
    for place, layer in enumerate(old):
        layers.append(layer)
        order.append(place)
        if place in tops:
            places.append(len(layers))
            layers.append(_silenced(deepcopy(layer)))
            order.append(place)
    for number, layer in enumerate(layers):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                setattr(module, "layer_idx", number)  # noqa: B010 - what a module may hold is typed as weights alone
    decoder = model.get_decoder()
    decoder.layers = nn.ModuleList(layers)
    config = model.config.get_text_config()
    for key in PER_LAYER:
        value = getattr(config, key, None)
        if isinstance(value, list | tuple) and len(value) == len(old):
            setattr(config, key, [value[place] for place in order])
    config.num_hidden_layers = len(layers)
    return places


@torch.no_grad()
def _silenced(layer: nn.Module) -> nn.Module:
    """The layer with zeros in everything that writes to the residual stream."""
    for name, weight in layer.named_parameters():
        if set(name.split(".")) & set(OUTPUTS):
            weight.zero_()
    return layer


@torch.no_grad()
def _probe(model: Any) -> torch.Tensor:
    """Logits of a few tokens, to see whether something changed."""
    training = model.training
    model.eval()
    known = model.get_input_embeddings().num_embeddings
    ids_BT = torch.arange(1, 9, device=model.device)[None] * max(1, known // 16) % known
    logits = model(input_ids=ids_BT, use_cache=False).logits
    model.train(training)
    return torch.as_tensor(logits)
