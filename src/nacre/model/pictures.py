"""Pictures as words: each patch of a picture has a token id of its own, far beyond the vocabulary.

A row with pictures stays a list of token ids, so what trains, scores, caches, compares and replays rows need not know
of pictures. The ids are made of the picture's hash, so they mean the same in every run. What such an id stands for, the
model's embedding is made to know (`see`): the output of the vision tower and its projector for that patch, where the
families put it themselves (Liu et al. 2023, "Visual instruction tuning", arXiv 2304.08485, eq. 1). Families that tell
positions or masks by pictures too are found out by trying, and refused.

Shape suffixes: B rows, T tokens, N positions that are patches, D hidden size.
"""

import hashlib
import shutil
from collections import OrderedDict, deque
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn
from transformers import AutoProcessor
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

from nacre.base.errors import InputError, NacreError
from nacre.base.hashing import sha256_file
from nacre.base.pictures import is_hash, open_picture, picture_name
from nacre.model.content import PLACE

FIRST = 1 << 62  # ids from here on are patches: 49 bits of the picture's hash, then 13 bits that count its patches
PATCH_BITS = 13
NUMBER_BITS = 49
KEPT_BYTES = 2**28  # of what is kept of one kind: pictures as the tower reads them, features that nothing changes
AT_ONCE = 32  # pictures that go through the tower together
ALONE = frozenset({"llava"})  # families that were tried and found to put pictures into the embeddings alone
FILES = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
_BESIDE = frozenset({"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids"})
_CLOSE = 1e-3  # of the largest logit
T = TypeVar("T")
_REFUSED = (AttributeError, TypeError, ValueError, RuntimeError, LookupError)  # what was not implemented included


def sees(kind: str) -> bool:
    """Whether a model of this `model_type` reads pictures beside texts, and is loaded so."""
    return kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES and kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


class Latest(Generic[T]):
    """Values by number, the latest of them within `KEPT_BYTES`."""

    def __init__(self) -> None:
        self._values: OrderedDict[int, tuple[T, int]] = OrderedDict()
        self._bytes = 0

    def get(self, number: int) -> T | None:
        """The value, if it is still there."""
        if number not in self._values:
            return None
        self._values.move_to_end(number)
        return self._values[number][0]

    def put(self, number: int, value: T, size: int) -> None:
        """Keep a value of so many bytes; the oldest go."""
        self._values[number] = (value, size)
        self._bytes += size
        while len(self._values) > 1 and self._bytes > KEPT_BYTES:
            self._bytes -= self._values.popitem(last=False)[1][1]


class Album:
    """Which picture each number means. Numbers are made of content: two models may share an album."""

    def __init__(self) -> None:
        self._pictures: dict[int, tuple[str, str | bytes]] = {}

    def add(self, picture: str | bytes) -> int:
        """The number of a picture, by its path or its bytes.

        Raises:
            InputError: no such file.
            NacreError: another picture has the same number.
        """
        if isinstance(picture, bytes):
            name = hashlib.sha256(picture).hexdigest()
        elif not is_hash(name := picture_name(picture)):
            if not Path(picture).is_file():
                raise InputError("the picture does not exist", where=picture, fix="correct its path in the row")
            name = sha256_file(Path(picture))
        number = int(name, 16) >> (256 - NUMBER_BITS)
        known = self._pictures.get(number)
        if known is not None and known[0] != name:
            what = "two pictures have hashes that begin alike, which happens once in a hundred million pictures"
            raise NacreError(what, where=f"{known[0]}, {name}", fix="save one of them in another format")
        self._pictures[number] = (name, picture)
        return number

    def open(self, number: int) -> Any:
        """The picture as Pillow's.

        Raises:
            NacreError: it is gone, or not what it was.
        """
        name, picture = self._pictures[number]
        where = name if isinstance(picture, bytes) else picture
        try:
            data = picture if isinstance(picture, bytes) else Path(picture).read_bytes()
            if hashlib.sha256(data).hexdigest() != name:
                raise ValueError("its bytes are not those that were kept")
            return open_picture(data)
        except InputError:
            raise
        except (OSError, ValueError) as error:
            fix = "restore the file from a backup, or take the snapshot of that increment again"
            raise NacreError(f"a picture cannot be read: {error}", where=where, fix=fix) from None


ALBUM = Album()
"""The album of this process: what a tokenizer numbered, a model that was loaded elsewhere must know."""


class Reader:
    """A model folder's processor: pictures to token ids, and to what the vision tower reads.

    Args:
        folder: of the model. Nothing is loaded before the first picture.
    """

    def __init__(self, folder: str, album: Album = ALBUM) -> None:
        self.folder, self.album = folder, album
        self._ids: dict[int, list[int]] = {}
        self._made: Latest[dict[str, torch.Tensor]] = Latest()

    @cached_property
    def processor(self) -> Any:
        """transformers' processor.

        Raises:
            InputError: the folder has none that can be loaded.
        """
        try:
            return AutoProcessor.from_pretrained(self.folder, trust_remote_code=False)
        except (OSError, ValueError, ImportError) as error:
            reason = str(error).strip().splitlines()[0]
            fix = "the folder needs preprocessor_config.json, and pictures need pip install 'nacre[images]'"
            raise InputError(f"cannot load the model's processor: {reason}", where=self.folder, fix=fix) from None

    @cached_property
    def token(self) -> str:
        """What stands for a picture in the texts of this model."""
        return str(getattr(self.processor, "image_token", PLACE))

    @cached_property
    def token_id(self) -> int:
        """Its id, which an embedding knows."""
        return int(self.processor.tokenizer.convert_tokens_to_ids(self.token))

    def ids(self, picture: str | bytes) -> list[int]:
        """The token ids that stand for a picture: what the processor writes there, patches by their own ids.

        Raises:
            InputError: it has more patches than can be numbered.
        """
        number = self.album.add(picture)
        if number not in self._ids:
            written = self.made(number)["input_ids"][0].tolist()
            patches = written.count(self.token_id)
            if not 0 < patches <= 1 << PATCH_BITS:
                what = f"the model makes {patches} tokens of a picture; from 1 to {1 << PATCH_BITS} can be told apart"
                raise InputError(what, where=self.folder, fix="give smaller pictures, or set a smaller size")
            first, count = FIRST | number << PATCH_BITS, iter(range(patches))
            self._ids[number] = [first | next(count) if one == self.token_id else one for one in written]
        return self._ids[number]

    def seen(self, number: int) -> dict[str, torch.Tensor]:
        """What the vision tower reads of a picture."""
        return {name: tensor for name, tensor in self.made(number).items() if name not in _BESIDE}

    def lay_out(self, text: str, waiting: deque[str], tokenizer: Any) -> list[int]:
        """Tokens of a text in which the next of the pictures that wait stand at its places."""
        found: list[int] = []
        for place, part in enumerate(text.split(self.token)):
            if place:
                found += self.ids(waiting.popleft()) if waiting else [self.token_id]
            found += tokenizer(part, add_special_tokens=False)["input_ids"] if part else []
        return found

    def save(self, folder: Path) -> None:
        """Put the processor's files beside weights that are saved."""
        for name in FILES:
            if (Path(self.folder) / name).is_file():
                shutil.copyfile(Path(self.folder) / name, folder / name)

    def made(self, number: int) -> dict[str, torch.Tensor]:
        """All that the processor makes of a picture, its tokens included."""
        known = self._made.get(number)
        if known is None:
            picture = self.album.open(number)
            known = dict(
                self.processor(images=[picture], text=[self.token], return_tensors="pt", add_special_tokens=False)
            )
            self._made.put(number, known, sum(one.nbytes for one in known.values()))
        return known


def vision_names(model: Any) -> list[str]:
    """The modules beside the language model that turn pictures into embeddings; none in a model that reads texts."""
    if not sees(model.config.model_type):
        return []
    decoder = model.get_decoder()
    return [name for name, part in model.base_model.named_children() if part is not decoder]


def sight_pattern(model: Any) -> str | None:
    """A regular expression for PEFT: the names of all modules that see; None in a model that reads texts."""
    names = vision_names(model)
    return rf"(.*\.)?({'|'.join(names)})(\..*)?" if names else None


def see(model: Any, reader: Reader, *, fixed: bool) -> None:
    """Make the model's embedding know patches; `fixed`: its weights will not change.

    Where the family puts pictures elsewhere too, rows with pictures are refused when the first one is looked at.
    """
    known = model.config.model_type in ALONE
    sight = Sight(model, reader, fixed)
    embedding = model.get_input_embeddings()
    embedding.register_forward_pre_hook(sight.before)
    embedding.register_forward_hook(sight.after)
    if not known:
        sight.reason = why_not(model, reader)


class Sight:
    """The embedding's hooks. Features are made once for each picture where nothing that makes them trains."""

    def __init__(self, model: Any, reader: Reader, fixed: bool) -> None:
        self._inner, self._reader, self._fixed = model.base_model, reader, fixed
        self._vision = [getattr(model.base_model, name) for name in vision_names(model)]
        bare = model.base_model.parameters(recurse=False)
        self._weights = [*bare, *(weight for part in self._vision for weight in part.parameters())]
        self._kept: Latest[torch.Tensor] = Latest()
        self.reason = ""

    def before(self, embedding: nn.Module, args: tuple[Any, ...]) -> Any:
        """Give the embedding ids that it knows."""
        if not args or not bool((args[0] >= FIRST).any()):
            return None
        if self.reason:
            fix = "use a model of the LLaVA kind, or leave the pictures out"
            raise InputError(f"pictures cannot be learned by this model: {self.reason}", where="model", fix=fix)
        ids_BT = args[0]
        known_BT: Any = torch.where(ids_BT >= FIRST, self._reader.token_id, ids_BT)
        known_BT.patches = ids_BT  # what `after` is handed is this very tensor
        return (known_BT, *args[1:])

    def after(self, embedding: nn.Module, args: tuple[Any, ...], output_BTD: torch.Tensor) -> torch.Tensor | None:
        """Put what is seen of each patch at its place."""
        ids_BT = getattr(args[0], "patches", None) if args else None
        if ids_BT is None:
            return None
        where_BT = ids_BT >= FIRST
        features_ND = self._features(ids_BT[where_BT]).to(output_BTD)
        return output_BTD.masked_scatter(where_BT[..., None], features_ND)

    def _features(self, ids_N: torch.Tensor) -> torch.Tensor:
        """[N, D] of patches, by their ids."""
        patch_N = ids_N & ((1 << PATCH_BITS) - 1)
        numbers, which_N = torch.unique((ids_N ^ FIRST) >> PATCH_BITS, return_inverse=True)
        keeps = self._fixed or not any(weight.requires_grad for weight in self._weights)
        found = {int(number): self._kept.get(int(number)) if keeps else None for number in numbers.tolist()}
        missing = [number for number, features_PD in found.items() if features_PD is None]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not keeps):
            found |= self._look(missing, keeps) if missing else {}
        each = [features_PD for features_PD in found.values() if features_PD is not None]
        start_of = torch.tensor([0, *[len(one) for one in each]]).cumsum(0)[:-1].to(ids_N.device)
        return torch.cat(each)[start_of[which_N] + patch_N]

    def _look(self, numbers: list[int], keeps: bool) -> dict[int, torch.Tensor]:
        """[patches, D] of each picture; those of one size go through the tower together."""
        if keeps:
            for part in self._vision:
                part.eval()  # dropout, where there is some, is for what trains
        sizes: dict[Any, list[int]] = {}
        seen = {number: self._reader.seen(number) for number in numbers}
        for number, given in seen.items():
            sizes.setdefault(tuple((name, one.shape) for name, one in given.items()), []).append(number)
        found: dict[int, torch.Tensor] = {}
        for alike in sizes.values():
            for batch in (alike[start : start + AT_ONCE] for start in range(0, len(alike), AT_ONCE)):
                found |= zip(batch, self._through([seen[number] for number in batch]), strict=True)
        for number in numbers if keeps else ():
            self._kept.put(number, found[number], found[number].nbytes)
        return found

    def _through(self, pictures: list[dict[str, torch.Tensor]]) -> list[torch.Tensor]:
        """What tower and projector make of pictures of one size."""
        first = next(weight for weight in self._weights if weight.is_floating_point())
        given = {name: torch.cat([one[name] for one in pictures]) for name in pictures[0]}
        given = {
            name: one.to(first.device, first.dtype if one.is_floating_point() else None) for name, one in given.items()
        }
        made = list(self._inner.get_image_features(**given, return_dict=True).pooler_output)
        if len(made) == len(pictures):
            return made
        return [torch.cat(list(self._through([one]))) for one in pictures] if len(pictures) > 1 else [torch.cat(made)]


@torch.no_grad()
def why_not(model: Any, reader: Reader) -> str:
    """Why what `see` does is not what the model does with pictures by itself; empty: it is. Tried on one picture."""
    training = model.training
    model.eval()
    try:
        ids = [*reader.ids(_probe()), 0]
        number = (ids[next(place for place, one in enumerate(ids) if one >= FIRST)] ^ FIRST) >> PATCH_BITS
        made = reader.made(number)
        plain_1T = torch.cat([made["input_ids"], torch.zeros(1, 1, dtype=torch.long)], 1).to(model.device)
        given = {name: tensor.to(model.device) for name, tensor in made.items() if name not in _BESIDE}
        if "mm_token_type_ids" in made:
            given["mm_token_type_ids"] = torch.cat([made["mm_token_type_ids"], torch.zeros(1, 1, dtype=torch.long)], 1)
        own_V = model(input_ids=plain_1T, attention_mask=torch.ones_like(plain_1T), **given).logits[0, -1].float()
        ids_1T = torch.tensor([ids], device=model.device)
        ours_V = model(input_ids=ids_1T, attention_mask=torch.ones_like(ids_1T)).logits[0, -1].float()
    except InputError as error:
        return error.what
    except _REFUSED as error:
        return f"its pictures cannot be read apart from its texts ({str(error).strip().splitlines()[0][:120]})"
    finally:
        model.train(training)
    if float((own_V - ours_V).abs().max()) <= _CLOSE * float(own_V.abs().max()):
        return ""
    return "in its family pictures change more than embeddings (positions, masks or later layers)"


def _probe() -> bytes:
    """A small picture of two colours that changes from corner to corner."""
    width, height = 48, 32
    header = f"P6 {width} {height} 255\n".encode()
    pixels = bytes(value for y in range(height) for x in range(width) for value in (5 * x, 7 * y, 128))
    return header + pixels
