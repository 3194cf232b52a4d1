"""Which name a version has on a server, and vLLM's adapters that come and go with the ledger's versions."""

import asyncio
import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from nacre.base.errors import InputError, NacreError
from nacre.serve.engines import EngineError, Target
from nacre.serve.engines.upstream.errors import Failed
from nacre.serve.engines.upstream.replica import Card, Replica
from nacre.serve.engines.upstream.settings import Upstream

_log = logging.getLogger("nacre.serve")

_LOOK_S = 0.2  # between two looks while a version is awaited
_FOLLOWS_S = 10.0  # that a second nacre gets to follow the ledger
_ANY = "*"
_NO_LORA = "start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"


class Models:
    """The names of versions on servers; for vLLM also their coming and going."""

    def __init__(self, settings: Upstream, replicas: Sequence[Replica]) -> None:
        self._settings, self._replicas = settings, replicas
        self._mending: dict[Replica, asyncio.Lock] = {replica: asyncio.Lock() for replica in replicas}
        self._told: set[tuple[str, str]] = set()

    def is_adapter(self, target: Target) -> bool:
        """Whether the version is brought to the servers by us."""
        return self._settings.kind == "vllm" and target.weights.adapter is not None and not self._mapped(target)

    def name_on(self, replica: Replica, target: Target) -> str | None:
        """The version's name on that server; None where it does not have it."""
        name, cards = self._mapped(target), replica.cards
        if name is None and self.is_adapter(target):
            name = adapter_name(target)
        if name is None and self._settings.kind == "nacre" and target.version:
            name = next((id for id in cards or () if id.endswith(f"@{target.version}")), None)
            return name
        if name is not None:
            return name if cards is None or name in cards else None
        return self._own(cards, target)

    async def load(self, target: Target) -> None:
        """Wait until a server has the version; bring an adapter to all that answer.

        Raises:
            InputError: the version's weights are of a kind that such servers cannot serve.
            NacreError: no server has it in time, and why.
        """
        if self.is_adapter(target):
            _check_adapter(target)
        await self._some_answer()
        if self.is_adapter(target):
            found = await asyncio.gather(*(self.mend(replica, target) for replica in self._replicas if replica.alive))
            problems = [error for error in found if error is not None]
            for error in problems:
                _log.warning("version %s is not on every upstream: %s", target.label, error.what)
            if len(problems) == len(found):
                raise problems[0]
            return
        patience_s = time.monotonic() + (_FOLLOWS_S if self._settings.kind == "nacre" else 0)
        while not any(replica.alive and self.name_on(replica, target) for replica in self._replicas):
            if time.monotonic() >= patience_s:
                raise self._missing(target)
            await asyncio.sleep(_LOOK_S)
            await asyncio.gather(*(replica.look() for replica in self._replicas))

    async def mend(self, replica: Replica, target: Target) -> NacreError | None:
        """Bring an adapter to a server that does not have it; what went wrong, or None."""
        name = adapter_name(target)
        async with self._mending[replica]:
            if replica.cards and name in replica.cards:
                return None
            try:
                async with asyncio.timeout(self._settings.load_s):
                    await self._bring(replica, name, self._seen_there(target))
            except Failed as error:
                return error.error
            except NacreError as error:
                return error
            except TimeoutError:
                return EngineError(f"{replica.name} took more than {self._settings.load_s:.0f} s to load an adapter")
        _log.info("version %s is on %s as %s", target.label, replica.name, name)
        return None

    async def remove(self, target: Target) -> None:
        """Take an adapter from all servers. One that does not answer has lost it or is told by the log."""
        name = adapter_name(target)
        for replica in self._replicas:
            if replica.cards is not None and name not in replica.cards:
                continue
            async with self._mending[replica]:
                try:
                    async with asyncio.timeout(self._settings.load_s):
                        await replica.ask("unload_lora_adapter", {"lora_name": name})
                    _log.info("version %s is gone from %s", target.label, replica.name)
                except (Failed, NacreError, TimeoutError) as error:
                    _log.warning("version %s may still be on %s: %s", target.label, replica.name, error)
                replica.cards = {id: card for id, card in (replica.cards or {}).items() if id != name}

    async def _bring(self, replica: Replica, name: str, path: str) -> None:
        """Load an adapter and see that it is there and answers.

        That the server says 200 proves nothing: versions of vLLM said so of folders that did not exist, and failed
        at the first request. So one token is asked of it.
        """
        try:
            await replica.ask("load_lora_adapter", {"lora_name": name, "lora_path": path})
        except Failed as error:
            if error.unknown_model and error.error.what.endswith("Not Found"):  # no such route
                raise EngineError(f"{replica.name} lets no adapter be loaded while it runs", fix=_NO_LORA) from None
            if "already" not in error.error.what:  # another gateway of the same ledger was first
                raise
        await replica.look()
        if replica.cards is not None and name not in replica.cards:
            raise EngineError(f"{replica.name} said that it loaded the adapter {name}, and does not have it")
        try:
            await replica.ask("completions", {"model": name, "prompt": "a", "max_tokens": 1, "temperature": 0})
        except Failed as error:
            await self._take_back(replica, name)
            raise EngineError(f"{replica.name} cannot answer with the adapter {name}: {error.error.what}") from None

    async def _take_back(self, replica: Replica, name: str) -> None:
        try:
            await replica.ask("unload_lora_adapter", {"lora_name": name})
        except Failed as error:
            _log.warning("the broken adapter %s may still be on %s: %s", name, replica.name, error)
        replica.cards = {id: card for id, card in (replica.cards or {}).items() if id != name}

    async def _some_answer(self) -> None:
        """Wait until a server answers: it may be starting.

        Raises:
            EngineError: none does in time.
        """
        until_s = time.monotonic() + self._settings.load_s
        while True:
            await asyncio.gather(*(replica.look() for replica in self._replicas))
            if any(replica.alive for replica in self._replicas):
                return
            if time.monotonic() >= until_s:
                names = ", ".join(replica.name for replica in self._replicas)
                raise EngineError(f"no upstream answers: {names}", fix="start one, or correct serve.upstream.urls")
            await asyncio.sleep(_LOOK_S)

    def _mapped(self, target: Target) -> str | None:
        models = self._settings.models
        return models.get(target.label) or models.get(_ANY)

    def _own(self, cards: Mapping[str, Card] | None, target: Target) -> str | None:
        """The name of a server's own model, if it is, or may be, this version."""
        own = [card for card in (cards or {}).values() if card.parent is None and not set("@:") & set(card.id)]
        path = self._seen_there(target)
        for card in own:
            if card.root == path:
                return card.id
        if len(own) != 1:
            return None
        card = own[0]
        if card.root is not None and card.root.startswith("/") and path.startswith("/"):
            return None  # it was loaded from another folder
        if (card.id, target.label) not in self._told:
            self._told.add((card.id, target.label))
            _log.warning("the upstream's model %s answers for version %s: unchecked", card.id, target.label)
        return card.id

    def _seen_there(self, target: Target) -> str:
        path = target.weights.folder if self.is_adapter(target) else target.weights.model
        for ours, theirs in self._settings.folders.items():
            if path == ours or path.startswith(ours.rstrip("/") + "/"):
                return theirs.rstrip("/") + path[len(ours.rstrip("/")) :]
        return path

    def _missing(self, target: Target) -> NacreError:
        listed = sorted({id for replica in self._replicas if replica.alive for id in replica.cards or ()})
        return NacreError(
            f"no upstream has version {target.label}; they have: {', '.join(listed[:20]) or 'no models'}",
            where="serve.upstream",
            fix=f"start one with it, or name it: serve.upstream.models: {{'{target.label}': NAME}}",
        )


def adapter_name(target: Target) -> str:
    """An adapter's name on vLLM: the same after a restart and on every gateway, another for other weights."""
    return f"nacre-{target.version}-{target.weights.identity[:12]}"


def _check_adapter(target: Target) -> None:
    """Refuse what vLLM would refuse later, or would load from a pickle.

    Raises:
        InputError: several adapters, no LoRA, or no safetensors.
    """
    folder = Path(target.weights.folder)
    if target.weights.several:
        raise InputError(
            f"version {target.label} is {target.weights.several}, which vLLM cannot serve",
            fix="serve it with engine: embedded, or merge it",
        )
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"version {target.label} has no adapter_config.json", where=str(folder)) from None
    if not (folder / "adapter_model.safetensors").exists():
        raise InputError(f"version {target.label} has no adapter_model.safetensors", where=str(folder))
    if config.get("peft_type") != "LORA" or config.get("use_dora"):
        raise InputError(
            f"version {target.label} is a {config.get('peft_type')} adapter; vLLM serves plain LoRA only",
            fix="serve it with engine: embedded, or merge it",
        )
