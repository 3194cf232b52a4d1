"""Which task a prompt belongs to, told without training from the hidden states of the frozen base.

A prompt is the mean of the base's last hidden states over its tokens; of one with pictures over its words, which have
read the pictures before them: patches are so many that in their mean no question could be told from another. A task is
the mean of its training prompts. A prompt goes to the task that is nearest in Mahalanobis distance, with one covariance
for all tasks: the spread of the prompts around their own task's mean, shrunk towards a multiple of the identity as the
oracle approximating shrinkage estimator says (Chen, Wiesel, Eldar, Hero 2010, arXiv 0907.4698, eq. 23), so that a few
rows are enough. Everything is sums over rows, so a task is added without the rows of earlier ones. That a frozen
model's features and closed forms suffice to route is the finding of Any-SSR (Tong et al. 2025, arXiv 2503.13575).

Shapes: B prompts, T tokens of the longest, D hidden size, K tasks, N training prompts, P prompts set aside.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from nacre.base.errors import NacreError
from nacre.model.pictures import FIRST
from nacre.records.weights import ROUTER

BASE = "__base__"  # PEFT's name for the model without any adapter
TENSORS = "router.safetensors"
FORMAT = 1
_TOKENS = 4096  # positions in one forward pass over prompts, padding included

Unknown = Literal["nearest", "base"]


@dataclass(frozen=True)
class Route:
    """A task that the router knows, who answers it, and how many of its prompts were read."""

    task: str
    adapter: str
    prompts: int


@dataclass(frozen=True, eq=False)
class Router:
    """Sends prompts to adapters.

    Attributes:
        routes: the tasks, in order of arrival.
        mean_KD: the mean of each task's prompts.
        scatter_DD: sum over all prompts of the outer product of their distance from their task's mean.
        aside_PD: by task, prompts that are part of neither; only where far ones go to the base.
        unknown: where a prompt goes that is farther from its nearest task than all that were set aside.
    """

    routes: tuple[Route, ...] = ()
    mean_KD: torch.Tensor = field(default_factory=lambda: torch.empty(0, 0, dtype=torch.double))
    scatter_DD: torch.Tensor = field(default_factory=lambda: torch.empty(0, 0, dtype=torch.double))
    aside_PD: Mapping[str, torch.Tensor] = field(default_factory=dict)
    unknown: Unknown = "nearest"

    @property
    def adapters(self) -> tuple[str, ...]:
        """Who answers, each once, in order of arrival; the base too, if tasks are its own."""
        return tuple(dict.fromkeys(route.adapter for route in self.routes))

    @property
    def needs_reading(self) -> bool:
        """Whether there is anything to decide."""
        return len(self.adapters) > 1 or self.unknown == "base"

    def of_task(self, task: str) -> Route | None:
        """The task's route, if it is known."""
        return next((route for route in self.routes if route.task == task), None)

    def with_task(
        self, task: str, adapter: str, read_ND: torch.Tensor, aside_PD: torch.Tensor | None = None
    ) -> "Router":
        """This router and one task more, answered by `adapter`; of a known task the prompts are added to those read."""
        read_ND = read_ND.double()
        count, mean_D = len(read_ND), read_ND.mean(0)
        away_ND = read_ND - mean_D
        scatter_DD = away_ND.T @ away_ND + (self.scatter_DD if self.routes else 0)
        aside = dict(self.aside_PD) | ({task: aside_PD.double()} if aside_PD is not None and len(aside_PD) else {})
        known = self.of_task(task)
        if known is None:
            means = [self.mean_KD, mean_D[None]] if self.routes else [mean_D[None]]
            routes = (*self.routes, Route(task, adapter, count))
            return Router(routes, torch.cat(means), scatter_DD, aside, self.unknown)
        place = self.routes.index(known)
        step_D = mean_D - self.mean_KD[place]
        total = known.prompts + count
        mean_KD = self.mean_KD.clone()
        mean_KD[place] += step_D * count / total
        scatter_DD = scatter_DD + torch.outer(step_D, step_D) * known.prompts * count / total
        routes = (*self.routes[:place], Route(task, adapter, total), *self.routes[place + 1 :])
        return Router(routes, mean_KD, scatter_DD, aside, self.unknown)

    def choose(self, read_BD: torch.Tensor) -> list[str]:
        """The adapter of each prompt."""
        distance_BK = self.distances(read_BD)
        nearest_B = distance_BK.argmin(-1)
        chosen = [self.routes[place].adapter for place in nearest_B.tolist()]
        if self.unknown == "nearest":
            return chosen
        far_B = distance_BK.gather(-1, nearest_B[:, None])[:, 0] > self._reach_K[nearest_B]
        return [BASE if far else name for name, far in zip(chosen, far_B.tolist(), strict=True)]

    def distances(self, read_BD: torch.Tensor) -> torch.Tensor:
        """Mahalanobis distance of each prompt from each task [B, K]."""
        return torch.cdist(self._whitened(read_BD.double()), self._whitened(self.mean_KD))

    def _whitened(self, read_BD: torch.Tensor) -> torch.Tensor:
        return torch.linalg.solve_triangular(self._cholesky_DD, read_BD.T, upper=False).T

    @cached_property
    def _cholesky_DD(self) -> torch.Tensor:
        return torch.linalg.cholesky(
            shrunk(self.scatter_DD, sum(route.prompts for route in self.routes) - len(self.routes))
        )

    @cached_property
    def _reach_K(self) -> torch.Tensor:
        """How far the farthest prompt set aside is from its task; no limit where none was."""
        reach = [
            self.distances(aside)[:, place].max() if (aside := self.aside_PD.get(route.task)) is not None else torch.inf
            for place, route in enumerate(self.routes)
        ]
        return torch.tensor(reach, dtype=torch.double)

    def save(self, folder: Path, adapters: Mapping[str, str] | None = None) -> None:
        """Write both files, the numbers in float32; of `adapters` the hashes of their weights, by name."""
        told = {
            "format": FORMAT,
            "reads": "mean over the prompt's words of the last hidden state of the base model without adapters",
            "unknown": self.unknown,
            "routes": [asdict(route) for route in self.routes],
            "adapters": dict(adapters or {}),
        }
        (folder / ROUTER).write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")
        tensors = {"mean_KD": self.mean_KD, "scatter_DD": self.scatter_DD}
        tensors |= {f"aside_{self._place(task)}": aside for task, aside in self.aside_PD.items()}
        save_file({name: tensor.float().contiguous() for name, tensor in tensors.items()}, folder / TENSORS)

    def _place(self, task: str) -> int:
        return [route.task for route in self.routes].index(task)

    @classmethod
    def load(cls, folder: Path) -> "Router":
        """Read what `save` wrote.

        Raises:
            NacreError: a file is missing or torn, or of a later format.
        """
        try:
            told = json.loads((folder / ROUTER).read_text(encoding="utf-8"))
            if told["format"] != FORMAT:
                raise NacreError("the router is of another format", where=str(folder / ROUTER), fix="update nacre")
            routes = tuple(Route(**route) for route in told["routes"])
            tensors = {name: tensor.double() for name, tensor in load_file(folder / TENSORS).items()}
            aside = {
                route.task: tensors[f"aside_{place}"]
                for place, route in enumerate(routes)
                if f"aside_{place}" in tensors
            }
            return cls(routes, tensors["mean_KD"], tensors["scatter_DD"], aside, told["unknown"])
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            what = f"the router of the adapters cannot be read: {error}"
            raise NacreError(what, where=str(folder), fix="restore the folder") from error


def shrunk(scatter_DD: torch.Tensor, freedom: int) -> torch.Tensor:
    """Covariance from a sum of outer products with `freedom` degrees of freedom, shrunk so that it can be inverted."""
    size = len(scatter_DD)
    identity_DD = torch.eye(size, dtype=scatter_DD.dtype)
    freedom = max(freedom, 1)
    covariance_DD = scatter_DD / freedom
    spread = float(covariance_DD.trace()) / size
    if spread <= 0:  # all prompts of every task are the same text
        return identity_DD
    squares = float((covariance_DD**2).sum())
    over = squares - size * spread**2
    top = (1 - 2 / size) * squares + (size * spread) ** 2
    share = 1.0 if over <= 0 else min(1.0, top / ((freedom + 1 - 2 / size) * over))
    share = max(share, 1e-6)
    return (1 - share) * covariance_DD + share * spread * identity_DD


@torch.no_grad()
def read_prompts(
    causal: Any, prompts: Sequence[Sequence[int]], advance: Callable[[int], None] = lambda rows: None
) -> torch.Tensor:
    """What the router reads of each prompt [B, D], in order: one forward pass of the decoder, on its device.

    `causal` must have no adapter active. `advance` is told how many prompts were just read.
    """
    found: dict[int, torch.Tensor] = {}
    for batch in _batches([len(prompt) for prompt in prompts]):
        width = max(len(prompts[row]) for row in batch)
        padded = [[*prompts[row], *[0] * (width - len(prompts[row]))] for row in batch]
        ids_BT = torch.tensor(padded, device=causal.device)
        lengths_B = torch.tensor([len(prompts[row]) for row in batch], device=causal.device)
        mask_BT = (torch.arange(width, device=causal.device) < lengths_B[:, None]).long()
        hidden_BTD = causal.get_decoder()(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).last_hidden_state
        words_BT = mask_BT.bool() & (ids_BT < FIRST)
        # not multiplied by the mask: what stands behind the padding may be no number
        summed_BD = hidden_BTD.float().masked_fill(~words_BT[..., None], 0).sum(1)
        read_BD = (summed_BD / words_BT.sum(1, keepdim=True).clamp(min=1)).double().cpu()
        found.update(zip(batch, read_BD, strict=True))
        advance(len(batch))
    return torch.stack([found[row] for row in range(len(prompts))])


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Row numbers, longest first, in groups of at most `_TOKENS` padded positions."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > _TOKENS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
