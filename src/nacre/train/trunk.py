"""Layers that do not train are computed once for each row: what comes out of them is kept in a memory-mapped file.

Where the layers below a boundary do not train (the tuner freeze, the protection freeze, adapters on the top layers
only), what they say of a row stays the same in every epoch, and in every later increment on the same layers. The file
is named by a hash over these layers' weights, the embedding's and the type they compute in; its rows are named by their
tokens. Dropout or noise below the boundary would make a kept answer wrong, so the cache is refused there with a reason.
Cost: tokens of all rows * D * 4 bytes on disk (2 in bf16), and reading them.

Shapes: B rows, T tokens of the longest row, D hidden size.
"""

import errno
import hashlib
import json
import os
import shutil
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nacre.base.errors import NacreError
from nacre.base.files import atomic_write, file_lock
from nacre.model.load import decoder_layers
from nacre.records import Train
from nacre.train import processes
from nacre.train.rows import Prepared

HASH_BYTES = 16
FREE_SHARE = 0.5  # of the disk's free space that one file may take
GIB = 2**30
PASSES = 1.5  # over the same rows from which keeping their states pays
RANDOM = ("drop", "jitter")  # words in the names of attributes that say how much is drawn at random in training
CLOSE = 1e-4  # of the largest state: how near the model split in two must come to the model in one


def boundary_of(model: Any) -> int:
    """How many of the first blocks neither train nor have anything that trains below them."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    layers, decoder, head = decoder_layers(model), causal.get_decoder(), causal.get_output_embeddings()
    above = {id(weight) for weight in head.parameters()} if head is not None else set()
    above |= {id(weight) for weight in getattr(decoder, "norm", nn.Identity()).parameters()}
    above -= {id(weight) for weight in causal.get_input_embeddings().parameters()}
    inside = {id(weight) for layer in layers for weight in layer.parameters()}
    trained = {id(weight) for weight in model.parameters() if weight.requires_grad}
    if trained - inside - above:
        return 0
    for place, layer in enumerate(layers):
        if any(id(weight) in trained for weight in layer.parameters()):
            return place
    return len(layers)


def why_not_kept(model: Any, boundary: int) -> str:
    """Why what the first `boundary` blocks say must not be kept; empty: it may be."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    above = {id(inner) for layer in decoder_layers(model)[boundary:] for inner in layer.modules()}
    decoder = causal.get_decoder()  # whole: some families drop parts of the embedding's states before the first block
    for module in (one for one in decoder.modules() if id(one) not in above):
        if isinstance(module, nn.Dropout) and module.p > 0:
            return f"there is dropout of {module.p:g} below the layers that train"
        for name, value in vars(module).items():  # a share that the family hands to a function
            if isinstance(value, float) and value > 0 and any(word in name for word in RANDOM):
                return f"there is {name} of {value:g} below the layers that train"
    return ""


@dataclass(frozen=True)
class Room:
    """Where the file lies, and how large it may become."""

    folder: Path
    limit_bytes: float

    def fits(self, tokens: int, width: int, itemsize: int) -> str:
        """Why so many tokens' states cannot be kept here; empty: they can."""
        needed = tokens * width * itemsize
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if needed > self.limit_bytes:
            return f"it would take {needed / GIB:.1f} GiB, and the limit is {self.limit_bytes / GIB:.1f}"
        if needed > FREE_SHARE * free:
            return f"it would take {needed / GIB:.1f} GiB of the {free / GIB:.1f} that the disk has free"
        return ""


class FrozenTrunk:
    """The first `boundary` blocks of a decoder, and a file of what they said.

    Attributes:
        read: rows whose states came from the file; `made`: rows whose states were computed.
        left: rows for which there was no room.
    """

    def __init__(self, model: Any, boundary: int, room: Room) -> None:
        causal = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._decoder, self._layers, self._boundary = causal.get_decoder(), decoder_layers(model), boundary
        self._embedding = causal.get_input_embeddings()
        self._room = room
        self._weights = weights_hash([self._embedding, *self._layers[:boundary]], causal.config.to_json_string())
        self._stack = ExitStack()
        self._file: _File | None = None
        self._fault = ""
        self.read = self.made = self.left = 0

    def run(self, spread: Any, whole: Any, ids_BT: torch.Tensor, mask_BT: torch.Tensor, given: dict[str, Any]) -> Any:
        """What `spread` makes of `whole` for these rows: the blocks that train alone, on the others' kept states."""
        lower_BTD = self._look(spread, whole, ids_BT, mask_BT, given)

        def upper(*, lower: torch.Tensor, **call: Any) -> Any:
            with self._handing_on(lower):
                return whole(**call)

        return spread(upper, ids_BT, mask_BT, lower_BTD=lower_BTD, **given)

    def __str__(self) -> str:
        told = f"of blocks that do not train, states of {self.read} rows were read and of {self.made} computed"
        told += f"; for {self.left} there was no room" if self.left else ""
        return f"{told}; {self._fault}" if self._fault else told

    def close(self) -> None:
        """Write down which rows are in the file."""
        if self._file is not None:
            with self._stack:
                self._fault = self._file.save()
        self._file = None

    def _look(
        self, spread: Any, whole: Any, ids_BT: torch.Tensor, mask_BT: torch.Tensor, given: dict[str, Any]
    ) -> torch.Tensor:
        assert self._file is not None
        lengths = mask_BT.sum(1).tolist()
        states_BTD = torch.zeros(*ids_BT.shape, self._file.width, dtype=self._file.dtype)
        for place, length in enumerate(lengths):
            row = ids_BT[place : place + 1, :length]
            key = row_key(row[0])
            if key in self._file.rows:
                states_BTD[place, :length] = self._file.get(key)
                self.read += 1
                continue
            # by itself, so that its states do not hang on the rows beside it, not even in their last digit
            found_TD = self._lower(spread, whole, row, mask_BT[place : place + 1, :length], given)[0]
            states_BTD[place, :length] = found_TD
            self.left += not self._file.put(key, found_TD)
            self.made += 1
        return states_BTD

    @torch.no_grad()
    def _lower(
        self, spread: Any, whole: Any, ids_BT: torch.Tensor, mask_BT: torch.Tensor, given: dict[str, Any]
    ) -> torch.Tensor:
        """What the first blocks say of these rows."""

        def lower_only(**call: Any) -> Any:
            caught: list[torch.Tensor] = []
            last = self._layers[self._boundary - 1]
            hook = last.register_forward_hook(lambda module, args, out: caught.append(out))
            try:
                with _replaced(self._layers[self._boundary :], _first):
                    found = whole(**call)
            finally:
                hook.remove()
            found.last_hidden_state = caught[0]
            return found

        states_BTD: torch.Tensor = spread(lower_only, ids_BT, mask_BT, **given).last_hidden_state
        return states_BTD

    @contextmanager
    def _handing_on(self, lower: torch.Tensor) -> Iterator[None]:
        """The first blocks hand on what they are given, but for the last of them, which says `lower`."""
        with (
            _replaced(self._layers[: self._boundary - 1], _first),
            _replaced([self._layers[self._boundary - 1]], lambda *args, **given: lower),
        ):
            yield

    @torch.no_grad()
    def open(self) -> str:
        """Try the blocks in two halves, and open the file for states of the type that the first half gives.

        Returns:
            Why it cannot be done; empty: it is. Some families tie early blocks to late ones.
        """
        modes = [(module, module.training) for module in self._decoder.modules()]
        self._decoder.eval()
        whole = self._decoder.forward
        weight = self._embedding.weight
        ids_BT = (torch.arange(8, device=weight.device) * 7 % len(weight))[None]
        call = {"input_ids": ids_BT, "attention_mask": torch.ones_like(ids_BT), "use_cache": False}
        try:
            expected = whole(**call).last_hidden_state.float()
            lower: Any = self._lower(_plainly, whole, ids_BT, torch.ones_like(ids_BT), {"use_cache": False})
            with self._handing_on(lower):
                found = whole(**call).last_hidden_state.float()
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            return f"its blocks cannot be called apart ({str(error).splitlines()[0][:120]})"
        finally:
            for module, training in modes:
                module.training = training
        if (found - expected).abs().max() > CLOSE * expected.abs().max():
            return "in this family later blocks use more of them than their last states"
        if not isinstance(lower, torch.Tensor):
            return "its blocks give more than their states"
        device = weight.device.type
        computed = str(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else "as stored"
        # under autocast states may be float32 and yet have been computed in bf16
        name = hashlib.sha256(f"{self._weights} {self._boundary} {lower.dtype} {computed}".encode()).hexdigest()
        path = self._room.folder / f"{name}.states"
        try:
            self._stack.enter_context(file_lock(path.with_suffix(".lock"), wait=False))
        except NacreError:
            return "another run uses the file"
        self._file = _File(path, lower.shape[-1], lower.dtype, self._room.limit_bytes)
        return ""


class _File:
    """Rows of states one after another, and where each begins.

    It helps, and no more: a disk that is full ends no training, but what is computed is kept no longer.
    """

    def __init__(self, path: Path, width: int, dtype: torch.dtype, limit_bytes: float) -> None:
        self.width, self.dtype = width, dtype
        self._path, self._index, self._limit = path, path.with_suffix(".json"), limit_bytes
        self.rows = self._read_index()
        self._file = path.open("r+b" if self.rows else "w+b", buffering=0)
        self._end = max((start + tokens for start, tokens in self.rows.values()), default=0)
        self._file.truncate(self._end * self._token_bytes)
        self._mapped: torch.Tensor | None = None
        self._fault = ""

    @property
    def _token_bytes(self) -> int:
        return self.width * self.dtype.itemsize

    def _read_index(self) -> dict[bytes, tuple[int, int]]:
        """Which rows are in the file; none, where it is torn."""
        try:
            told = json.loads(self._index.read_text())
            held = {bytes.fromhex(key): (start, tokens) for key, (start, tokens) in told.items()}
        except (FileNotFoundError, ValueError, AttributeError, TypeError):
            held = {}
        size = self._path.stat().st_size if self._path.exists() else 0
        rows = {key: place for key, place in held.items() if sum(place) * self._token_bytes <= size}
        if len(rows) < len(held):  # others will lie where the index says that these are, and this run may be killed
            self._index.unlink()
            self._write_index(rows)
        return rows

    def _write_index(self, rows: Mapping[bytes, tuple[int, int]]) -> None:
        atomic_write(self._index, json.dumps({key.hex(): place for key, place in rows.items()}))

    def get(self, key: bytes) -> torch.Tensor:
        """States [T, D] of a row."""
        start, tokens = self.rows[key]
        if self._mapped is None or len(self._mapped) < start + tokens:
            numbers = torch.from_file(str(self._path), shared=True, size=self._end * self.width, dtype=self.dtype)
            self._mapped = numbers.view(-1, self.width)
        return self._mapped[start : start + tokens]

    def put(self, key: bytes, states_TD: torch.Tensor) -> bool:
        """Keep a row; False: there is no room for it."""
        if key in self.rows:
            return True
        end = self._end * self._token_bytes
        if self._fault or end + len(states_TD) * self._token_bytes > self._limit:
            return False
        numbers = states_TD.detach().to(self.dtype).contiguous().view(torch.uint8).numpy().tobytes()
        self._file.seek(end)
        try:
            if self._file.write(numbers) < len(numbers):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:  # what cannot be kept can be computed again
            self._file.truncate(end)
            self._fault = f"the file took no more: {error.strerror}"
            return False
        self.rows[key] = (self._end, len(states_TD))
        self._end += len(states_TD)
        return True

    def save(self) -> str:
        """Write down which rows there are: what a killed run wrote beyond that is written again.

        Returns:
            Why not all could be kept; empty: all is.
        """
        self._file.close()
        self._mapped = None
        try:
            os.utime(self._path)  # so that a file that is read stays young
            self._write_index(self.rows)
        except (OSError, NacreError) as error:
            self._fault = self._fault or f"which rows the file has could not be written down: {error}"
        return self._fault


def weights_hash(modules: Sequence[nn.Module], config: str) -> str:
    """SHA-256 over all numbers of the modules, and over what adapters in them do with theirs."""
    digest = hashlib.sha256(config.encode())
    for outer in modules:
        for name, tensor in outer.state_dict(keep_vars=True).items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        for inner in outer.modules():
            told = [getattr(inner, name, None) for name in ("scaling", "active_adapters", "merged_adapters")]
            digest.update(repr(told).encode())
    return digest.hexdigest()


def row_key(ids_T: torch.Tensor) -> bytes:
    """Names a row by its tokens."""
    return hashlib.blake2b(array("q", ids_T.tolist()).tobytes(), digest_size=HASH_BYTES).digest()


def _plainly(whole: Any, ids_BT: torch.Tensor, mask_BT: torch.Tensor, **given: Any) -> Any:
    return whole(input_ids=ids_BT, attention_mask=mask_BT, **given)


def _first(hidden: torch.Tensor, *args: Any, **given: Any) -> torch.Tensor:
    return hidden


@contextmanager
def _replaced(layers: Sequence[nn.Module], forward: Callable[..., torch.Tensor]) -> Iterator[None]:
    """While the block runs, each of the layers computes `forward` instead of its own."""
    held = [layer.__dict__.get("forward") for layer in layers]
    for layer in layers:
        layer.forward = forward
    try:
        yield
    finally:
        for layer, own in zip(layers, held, strict=True):
            if own is None:
                del layer.forward
            else:
                layer.forward = own


def trunk_for(model: Any, settings: Train, prepared: Prepared, folder: Path) -> tuple[FrozenTrunk | None, str]:
    """The layers that need not be computed again in this run, and what is to be said of it.

    Nothing is said where everything trains, and where no row comes twice.
    """
    boundary = boundary_of(model) if settings.trunk_cache == "auto" else 0
    distinct = sorted(set(prepared.places))
    passes = len(prepared.places) / len(distinct)
    if not boundary or passes < PASSES or model.device.type != "cpu":
        return None, ""
    room = Room(folder / "trunk", settings.trunk_cache_gib * GIB)
    reason = _hindered(settings) or why_not_kept(model, boundary)
    if not reason:
        rows = prepared.table.select(distinct)
        tokens = sum(
            len(ids) for name in ("input_ids", "rejected_ids") if name in rows.column_names for ids in rows[name]
        )
        weight = model.get_input_embeddings().weight
        reason = room.fits(tokens, weight.shape[-1], weight.dtype.itemsize)
    told = f"the first {boundary} blocks do not train"
    if not reason:
        trunk = FrozenTrunk(model, boundary, room)
        reason = trunk.open()
        if not reason:
            return trunk, f"{told}: what they say of a row is computed once"
    return None, f"{told}, but what they say is computed anew each time: {reason}"


def _hindered(settings: Train) -> str:
    """What in the settings keeps kept states from being right, or from being shared."""
    if settings.neftune_alpha:
        return "neftune_alpha adds noise to the embeddings"
    if settings.gradient_checkpointing:
        return "gradient checkpointing computes blocks a second time"
    if processes.world() > 1:
        return "several processes train"
    return ""
