"""The server of `rest_grpc.py`: an engine that needs no model. python grpc_app.py PORT GRPC_PORT KEY FOLDER"""

import asyncio
import sys
from pathlib import Path

from nacre.records import Weights
from nacre.serve.engines import ENGINES, Delta, Finish, Generation, Prompt, Sampling, Target
from nacre.serve.run import serve
from nacre.serve.settings import Serve


class PacedEngine:
    """Says ``word`` `max_tokens` times: at once, or with as many milliseconds between two as the seed says."""

    features: frozenset[str] = frozenset()
    waiting = 0

    def __init__(self, settings: Serve) -> None:
        self.loaded: tuple[Target, ...] = ()

    async def load(self, target: Target) -> None:
        self.loaded = (target,)

    async def unload(self, target: Target) -> None:
        self.loaded = ()

    async def generate(self, target: Target, prompt: Prompt, sampling: Sampling) -> Generation:
        return PacedGeneration(target, sampling.max_tokens or 1, (sampling.seed or 0) / 1000)

    async def close(self) -> None:
        return None


class PacedGeneration:
    prompt_tokens = 20

    def __init__(self, target: Target, most: int, pause_s: float) -> None:
        self.target, self._left, self._most, self._pause_s = target, most, most, pause_s
        self._cancelled = False

    async def next(self) -> Delta | Finish:
        await asyncio.sleep(self._pause_s)
        if self._cancelled:
            return Finish("aborted", self._most - self._left)
        if not self._left:
            return Finish("length", self._most)
        self._left -= 1
        return Delta("word ")

    def cancel(self) -> None:
        self._cancelled = True


if __name__ == "__main__":
    ENGINES._entries["paced"] = f"{__name__}:PacedEngine"
    port, grpc_port, key, folder = sys.argv[1:]
    Path(folder, "config.json").write_text("{}")
    settings = Serve(port=int(port), grpc_port=int(grpc_port), api_keys=(key,), name="bot", engine="paced", log="off")
    serve(Weights(identity="0" * 64, model=folder), settings, announce=print)
