"""Pictures and texts in one space: models with an encoder for each, whose pairs lie close together.

The loss is InfoNCE (van den Oord et al. 2018, "Representation learning with contrastive predictive coding", arXiv
1807.03748, eq. 4) in both directions, as CLIP has it (Radford et al. 2021, arXiv 2103.00020, figure 3): each
picture must find its caption among those of the batch, and each caption its picture.

Shape suffixes: B pairs of a batch, N pairs of a task, K different captions, T tokens of the longest caption, D width of
the common space.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from nacre.model.pictures import Latest, Reader

KINDS = ("clip", "vision-text-dual-encoder")
BATCH = 64


class Found(NamedTuple):
    """What a model makes of one pair among all of its task.

    Attributes:
        caption: the nearest of all captions to the picture.
        nll: negative log-likelihood, in nats, of its own caption among them.
        ranks: the place of its own caption among those nearest to the picture, and of the nearest picture that has
            this caption among those nearest to the caption; from 1.
    """

    caption: str
    nll: float
    ranks: tuple[int, int]


def aligns(kind: str) -> bool:
    """Whether a model of this `model_type` puts pictures and texts into one space, and says nothing."""
    return kind in KINDS


def info_nce(image_BD: torch.Tensor, text_BD: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Symmetric InfoNCE in nats, a scalar.

    The vectors need not have length one; `scale` multiplies their cosine, and is the inverse of a temperature. Rows
    with the same caption have the same scores, and share what is given to it: to tell them apart would change nothing.
    """
    logits_BB = scale * functional.normalize(image_BD, dim=-1) @ functional.normalize(text_BD, dim=-1).T
    own_B = torch.arange(len(logits_BB), device=logits_BB.device)
    there = functional.cross_entropy(logits_BB, own_B)
    back = functional.cross_entropy(logits_BB.T, own_B)
    return (there + back) / 2


def vectors(model: Any, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """[B, D] each, of `pixel_values` and of `input_ids` with `attention_mask`; with gradients where they are on."""
    image_BD = model.get_image_features(pixel_values=inputs["pixel_values"], return_dict=True).pooler_output
    words = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    return image_BD, model.get_text_features(**words, return_dict=True).pooler_output


class Pixels:
    """Pictures by path, as the vision tower reads them; the latest are kept."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._kept: Latest[torch.Tensor] = Latest()

    def __call__(self, paths: Sequence[str]) -> torch.Tensor:
        """[B, channels, height, width]."""
        return torch.stack([self._of(self._reader.album.add(path)) for path in paths])

    def _of(self, number: int) -> torch.Tensor:
        known = self._kept.get(number)
        if known is None:
            picture = self._reader.album.open(number)
            known = self._reader.processor.image_processor(images=[picture], return_tensors="pt")["pixel_values"][0]
            self._kept.put(number, known, known.nbytes)
        return known


def caption_ids(tokenizer: Any, caption: str, max_length: int) -> tuple[list[int], int]:
    """Tokens of a caption, with what the encoder wants before and after them, and how many did not fit."""
    whole = tokenizer(caption)["input_ids"]
    if len(whole) <= max_length:
        return list(whole), 0
    return list(tokenizer(caption, truncation=True, max_length=max_length)["input_ids"]), len(whole) - max_length


def padded_ids(rows: Sequence[Sequence[int]], pad: int) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask` [B, T]."""
    width = max(map(len, rows))
    ids_BT = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows])
    lengths_B = torch.tensor([len(row) for row in rows])
    return {"input_ids": ids_BT, "attention_mask": (torch.arange(width) < lengths_B[:, None]).long()}


@torch.no_grad()
def retrieve(
    model: Any,
    tokenizer: Any,
    pairs: Sequence[tuple[str, str]],
    max_length: int,
    advance: Callable[[int], None] | None = None,
) -> list[Found]:
    """For each (path of a picture, caption) of a task what is found among all of them, in both directions.

    `advance` is called with the number of pairs just read.
    """
    captions = list(dict.fromkeys(caption for _, caption in pairs))
    pixels, device = Pixels(tokenizer.pictures), model.device
    images: list[torch.Tensor] = []
    for start in range(0, len(pairs), BATCH):
        batch = [path for path, _ in pairs[start : start + BATCH]]
        read = model.get_image_features(pixel_values=pixels(batch).to(device, model.dtype), return_dict=True)
        images.append(read.pooler_output)
        if advance:
            advance(len(batch))
    texts: list[torch.Tensor] = []
    for start in range(0, len(captions), BATCH):
        rows = [caption_ids(tokenizer, one, max_length)[0] for one in captions[start : start + BATCH]]
        words = {name: one.to(device) for name, one in padded_ids(rows, tokenizer.pad_token_id).items()}
        texts.append(model.get_text_features(**words, return_dict=True).pooler_output)
    image_ND = functional.normalize(torch.cat(images).double(), dim=-1)
    text_KD = functional.normalize(torch.cat(texts).double(), dim=-1)
    near_NK = (image_ND @ text_KD.T).cpu()
    own_N = torch.tensor([captions.index(caption) for _, caption in pairs])
    logs_NK = (float(model.logit_scale.exp()) * near_NK).log_softmax(-1)
    found = []
    for place, own in enumerate(own_N.tolist()):
        there = 1 + int((near_NK[place] > near_NK[place, own]).sum())
        best = near_NK[own_N == own, own].max()
        back = 1 + int((near_NK[:, own] > best).sum())
        found.append(Found(captions[int(near_NK[place].argmax())], -float(logs_NK[place, own]), (there, back)))
    return found
