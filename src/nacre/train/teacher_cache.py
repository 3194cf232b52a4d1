"""A teacher's opinion written down: its most likely tokens at each position, and one number for all the others.

A row is asked about once, however often it is drawn and however many runs are made against the same teacher. What is
stored: the k largest log-probabilities (or logits) in float32, their tokens in int32, and the log of the mass of all
other tokens: 8 k + 4 bytes a position. Half precision would not do: at a log-probability of -8 it is off by 0.004,
which is more than what a good student still has to learn.

Shapes: B rows, T tokens of a row, P positions asked about, K tokens kept of each, V vocabulary.
"""

import hashlib
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save

from nacre.base.files import atomic_write
from nacre.train import processes
from nacre.train.protect.base import Teacher

HASH_BYTES = 16
LIMIT_BYTES = 2**30  # of answers held in memory; rows beyond are asked about each time they come


class Top(NamedTuple):
    """What is known of a teacher's distribution at P positions.

    Attributes:
        logs_PK: the largest log-probabilities, in nats.
        ids_PK: their tokens.
        rest_P: log of the probability of all other tokens together; minus infinity where there are none.
        norm_P: what was taken from the logits to make them log-probabilities.
    """

    logs_PK: torch.Tensor
    ids_PK: torch.Tensor
    rest_P: torch.Tensor
    norm_P: torch.Tensor


def top_of(logits_PV: torch.Tensor, k: int) -> Top:
    """The `k` most likely tokens; all of them, where `k` is not less than the vocabulary."""
    norm_P = logits_PV.float().logsumexp(-1)
    logs_PV = logits_PV.float() - norm_P[:, None]
    logs_PK, ids_PK = logs_PV.topk(min(k, logs_PV.shape[-1]), dim=-1)
    rest_P = logs_PV.scatter(-1, ids_PK, -torch.inf).logsumexp(-1)
    return Top(logs_PK, ids_PK.int(), rest_P, norm_P)


def bucketed_divergence(student_PV: torch.Tensor, top: Top) -> torch.Tensor:
    """Mean over positions of KL(teacher || student) with all tokens outside the top k taken as one, in nats.

    Never more than the whole divergence, and equal to it where k is the vocabulary. Its gradient by the student's
    logits is the whole one's on the top k; on the others the two differ by at most twice the teacher's mass there
    (q_j - p_rest q_j / q_rest instead of q_j - p_j, in absolute sum).
    """
    logs_PV = student_PV.float().log_softmax(-1)
    ids_PK = top.ids_PK.long()
    total_P = (top.logs_PK.exp() * (top.logs_PK - logs_PV.gather(-1, ids_PK))).sum(-1)
    if ids_PK.shape[-1] < logs_PV.shape[-1]:
        rest_P = logs_PV.scatter(-1, ids_PK, -torch.inf).logsumexp(-1)
        total_P = total_P + top.rest_P.exp() * (top.rest_P - rest_P)
    return total_P.mean()


class TeacherCache:
    """The teacher's answers by row; what is missing is asked for when a row is first met, and kept from then on.

    Args:
        path: the file the answers lie in between runs.
        k: tokens kept of each position.
        teacher: called only when a row is missing.
    """

    def __init__(self, path: Path, k: int, teacher: Callable[[], Teacher]) -> None:
        self._path, self._k, self._teacher = path, k, teacher
        self._rows: dict[bytes, Top] = _read(path) if path.exists() else {}
        self._read_from_file = frozenset(self._rows)
        self._bytes = sum(map(_size, self._rows.values()))
        self.asked = 0

    def look(self, input_ids_BT: torch.Tensor, attention_mask_BT: torch.Tensor, where_BT: torch.Tensor) -> Top:
        """What the teacher says at the positions where `where_BT` is true, row after row."""
        keys = row_keys(input_ids_BT, attention_mask_BT, where_BT)
        missing = [place for place, key in enumerate(keys) if key not in self._rows]
        said: dict[bytes, Top] = {}
        if missing:
            wanted_BT = where_BT[missing]
            logits_PV = self._teacher().logits(input_ids_BT[missing], attention_mask_BT[missing], wanted_BT)
            lengths = wanted_BT.sum(1).tolist()
            said = _by_row([keys[place] for place in missing], top_of(logits_PV, self._k), lengths)
            self.asked += len(missing)
            if self._bytes < LIMIT_BYTES:
                self._keep(said)
        found = [said[key] if key in said else self._rows[key] for key in keys]
        return Top(*(torch.cat(parts).to(input_ids_BT.device) for parts in zip(*found, strict=True)))

    def put(self, keys: Sequence[bytes], top: Top, lengths: Sequence[int]) -> None:
        """Keep what was said of rows, `lengths` positions each."""
        self._keep(_by_row(keys, top, lengths))

    def _keep(self, said: dict[bytes, Top]) -> None:
        self._rows.update(said)
        self._bytes += sum(map(_size, said.values()))

    def __contains__(self, key: bytes) -> bool:
        return key in self._rows

    def gather(self) -> None:
        """Bring together on process 0 what each process has met: each sees its own rows only. All must call it."""
        own = {key: top for key, top in self._rows.items() if key not in self._read_from_file}
        for rows in processes.gathered(own):
            self._rows.update(rows)
        self.asked = processes.total(self.asked)

    def save(self, path: Path | None = None) -> None:
        """Write all rows to the file."""
        if not self._rows:
            return
        keys = torch.tensor([list(key) for key in self._rows], dtype=torch.uint8)
        lengths = torch.tensor([len(top.rest_P) for top in self._rows.values()])
        parts = {name: torch.cat([getattr(top, name) for top in self._rows.values()]) for name in Top._fields}
        atomic_write(path or self._path, save({"keys": keys, "lengths": lengths, **parts}))


def _read(path: Path) -> dict[bytes, Top]:
    held = load_file(path)
    lengths = held["lengths"].tolist()
    split = zip(*(torch.split(held[name], lengths) for name in Top._fields), strict=True)
    keys = (bytes(key) for key in held["keys"].tolist())
    return {key: Top(*parts) for key, parts in zip(keys, split, strict=True)}


def _by_row(keys: Sequence[bytes], top: Top, lengths: Sequence[int]) -> dict[bytes, Top]:
    """What was said of each row, `lengths` positions each, in main memory."""
    split = zip(*(torch.split(part.cpu(), list(lengths)) for part in top), strict=True)
    return {key: Top(*(part.clone() for part in parts)) for key, parts in zip(keys, split, strict=True)}


def _size(top: Top) -> int:
    return sum(part.nbytes for part in top)


def row_keys(input_ids_BT: torch.Tensor, attention_mask_BT: torch.Tensor, where_BT: torch.Tensor) -> list[bytes]:
    """Names each row by its tokens and the positions asked about; padding does not count."""
    keys = []
    for ids_T, mask_T, where_T in zip(input_ids_BT, attention_mask_BT.bool(), where_BT, strict=True):
        places = where_T[mask_T].nonzero()[:, 0].tolist()
        told = array("q", [*ids_T[mask_T].tolist(), -1, *places])
        keys.append(hashlib.blake2b(told.tobytes(), digest_size=HASH_BYTES).digest())
    return keys
