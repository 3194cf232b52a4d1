"""Prompts that begin alike are read once: keys and values of whole blocks of prompts that were read lately.

A block is known by the block before it and its own tokens, and the first by the version and adapter that read it and
the tenant it was read for, so nothing is ever shared between versions or tenants. The least lately used blocks make
room for new ones.

Shapes: L layers, H heads of keys and values, D size of a head.
"""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch

from nacre.serve.engines.embedded.pools import Seat

BLOCK = 32  # tokens

Reader = tuple[Hashable, str, str]  # the version, its adapter, and the tenant


@dataclass(frozen=True, eq=False)
class _Block:
    number: int
    reader: Reader
    keys_LHD: list[torch.Tensor]  # by layer, [H, BLOCK, D]
    values_LHD: list[torch.Tensor]


class PrefixCache:
    """What several prompts begin with.

    Args:
        most_tokens: how many tokens are kept; 0 keeps none.
    """

    def __init__(self, most_tokens: int) -> None:
        self._most = most_tokens // BLOCK
        self._blocks: OrderedDict[tuple[Hashable, tuple[int, ...]], _Block] = OrderedDict()
        self._numbers = 0

    @property
    def tokens(self) -> int:
        """Tokens kept now."""
        return len(self._blocks) * BLOCK

    def fill(self, seat: Seat, ids: Sequence[int], reader: Reader) -> int:
        """Put what is known of the beginning of a prompt into its seat; how many tokens that are.

        The last token is always left to be read: its logits are needed.
        """
        found = self._known(ids[: len(ids) - 1], reader)
        for place, block in enumerate(found):
            start = place * BLOCK
            for layer, keys_HBD in enumerate(block.keys_LHD):
                values_HBD = block.values_LHD[layer]
                keys_SHCD, values_SHCD = seat.pool.layer(layer, keys_HBD[None], values_HBD[None])
                keys_SHCD[seat.slot, :, start : start + BLOCK] = keys_HBD
                values_SHCD[seat.slot, :, start : start + BLOCK] = values_HBD
        return len(found) * BLOCK

    def keep(self, seat: Seat, ids: Sequence[int], reader: Reader) -> None:
        """Remember the whole blocks of a prompt that was just read."""
        if not self._most:
            return
        found = self._known(ids, reader)
        before: Hashable = found[-1].number if found else reader
        for start in range(len(found) * BLOCK, len(ids) - BLOCK + 1, BLOCK):
            self._numbers += 1
            keys, values = (
                [held[layer][seat.slot, :, start : start + BLOCK].clone() for layer in sorted(held)]
                for held in (seat.pool.keys_SHCD, seat.pool.values_SHCD)
            )
            self._blocks[before, tuple(ids[start : start + BLOCK])] = _Block(self._numbers, reader, keys, values)
            before = self._numbers
        self._known(ids, reader)
        while len(self._blocks) > self._most:
            self._blocks.popitem(last=False)

    def forget(self, version: Hashable) -> None:
        """Drop what a version that is gone has read."""
        for key in [key for key, block in self._blocks.items() if block.reader[0] == version]:
            del self._blocks[key]

    def _known(self, ids: Sequence[int], reader: Reader) -> list[_Block]:
        """The blocks that these tokens begin with. They become the latest used, the first one last of all.

        So a block is never dropped before those that can only be reached through it.
        """
        found: list[_Block] = []
        keys = []
        before: Hashable = reader
        for start in range(0, len(ids) - BLOCK + 1, BLOCK):
            key = (before, tuple(ids[start : start + BLOCK]))
            block = self._blocks.get(key)
            if block is None:
                break
            found.append(block)
            keys.append(key)
            before = block.number
        for key in reversed(keys):
            self._blocks.move_to_end(key)
        return found
