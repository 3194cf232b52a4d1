"""Verdicts on many answers: asked in parallel, each question once, and kept as they come in."""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from nacre.base.chat_client import ChatClient, ChatServer
from nacre.base.files import disk_errors
from nacre.base.hashing import sha256_text
from nacre.base.progress import progress
from nacre.evaluate.judge.prompts import Language, pair_prompt, read_choice, read_score, score_prompt
from nacre.evaluate.metrics.words import mostly_chinese
from nacre.records import Example
from nacre.records.judge import Judge

_SHOWN = 100  # characters of an unreadable reply in the note about it


class Verdicts(NamedTuple):
    """Scores from 0 to 1 by place of the row, and what is to be said about them."""

    scores: dict[int, float]
    notes: tuple[str, ...]


def judge_client(settings: Judge) -> ChatClient:
    """Asks the judge, at temperature 0.

    Raises:
        InputError: the key is missing, or the URL is none.
    """
    asked = settings.model_dump(include={"url", "model", "key_env", "max_tokens", "timeout_s", "retries"})
    kept = "the verdicts it gave are kept"
    return ChatClient(ChatServer(**asked, temperature=0, who="the judge", settings="evaluate.judge", kept=kept))


class Asking:
    """Asks one judge, and remembers its verdicts in a file so that no question is paid for twice.

    The file holds hashes of questions and verdicts only, no text of any row. Unreadable replies are not kept.

    Args:
        settings: the judge.
        kept: folder for the file, which is named by the judge's digest.

    Raises:
        InputError: the key is missing, or the URL is none.
    """

    def __init__(self, settings: Judge, kept: Path) -> None:
        self.settings = settings
        self._client = judge_client(settings)
        self._path = kept / f"{settings.digest}.jsonl"

    def scores(self, examples: Mapping[int, Example], answers: Mapping[int, str], language: Language) -> Verdicts:
        """A score for each answer, by place.

        Raises:
            NacreError: the judge fails; the verdicts it had given are kept.
        """
        prompts = {place: score_prompt(self.settings, language, examples[place], answers[place]) for place in answers}
        found, odd = self._ask(list(prompts.values()), read_score)
        scores = {place: score for place, prompt in prompts.items() if (score := found.get(prompt)) is not None}
        return Verdicts(scores, (self._asked(language), *_unread(len(prompts) - len(scores), len(prompts), odd)))

    def preferences(
        self, examples: Mapping[int, Example], answers: Mapping[int, tuple[str, str]], language: Language
    ) -> Verdicts:
        """How the new one of (old, new) answers compares, by place: 1 better in both orders, 0 worse in both, else 0.5.

        A judge that favours a place (Zheng et al. 2023, arXiv 2306.05685, section 3.3) contradicts itself when the
        order is turned, and counts as no preference. Equal answers are 0.5 without being sent.

        Raises:
            NacreError: the judge fails; the verdicts it had given are kept.
        """
        differing = [place for place, (old, new) in answers.items() if old.strip() != new.strip()]
        straight, swapped = (
            {
                place: pair_prompt(self.settings, language, examples[place], *answers[place][::step])
                for place in differing
            }
            for step in (1, -1)
        )
        found, odd = self._ask([*straight.values(), *swapped.values()], read_choice)
        scores = {place: 0.5 for place in answers if place not in straight}
        turned = 0
        for place in differing:
            said: Any = (found.get(straight[place]), found.get(swapped[place]))
            if None not in said:
                scores[place] = {("second", "first"): 1.0, ("first", "second"): 0.0}.get(said, 0.5)
                turned += said in (("first", "first"), ("second", "second"))
        rows, sent = len(answers), len(differing)
        notes = [self._asked(language), *_unread(rows - len(scores), rows, odd)]
        if sent < rows:
            notes.append(f"{rows - sent} of {rows} pairs are equal answers: not sent, 0.5 each")
        if turned:
            notes.append(f"in {turned} of {sent} pairs the judge took the place, not the answer: 0.5 each")
        return Verdicts(scores, tuple(notes))

    def _asked(self, language: Language) -> str:
        own = " with your own prompt" if self.settings.prompt or self.settings.pairwise_prompt else ""
        return f"judged by {self.settings.model} at {self.settings.url}, prompt in {language}{own}"

    def _ask(self, prompts: Sequence[str], read: Callable[[str], Any]) -> tuple[dict[str, Any], list[str]]:
        """The verdict for each prompt that got a readable one, and the replies that could not be read."""
        known = self._read()
        keys = {prompt: sha256_text(prompt) for prompt in dict.fromkeys(prompts)}
        found = {prompt: known[key] for prompt, key in keys.items() if key in known}
        missing = [prompt for prompt in keys if prompt not in found]
        odd: list[str] = []
        if missing:
            with disk_errors(self._path):
                self._path.parent.mkdir(parents=True, exist_ok=True)
        with progress("judge", len(missing)) as advance, ThreadPoolExecutor(self.settings.parallel) as pool:
            asked = {pool.submit(self._verdict, prompt, read): prompt for prompt in missing}
            try:
                for done in as_completed(asked):
                    verdict, reply = done.result()
                    if verdict is None:
                        odd.append(reply)
                    else:
                        found[asked[done]] = verdict
                        self._keep(keys[asked[done]], verdict)
                    advance(1)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        return found, odd

    def _verdict(self, prompt: str, read: Callable[[str], Any]) -> tuple[Any, str]:
        """A reply that cannot be read is asked for once more: servers do not answer quite alike each time."""
        reply = ""
        for _ in range(min(2, self.settings.retries + 1)):
            reply = self._client.ask(prompt)
            verdict = read(reply)
            if verdict is not None:
                return verdict, reply
        return None, reply

    def _keep(self, key: str, verdict: float | str) -> None:
        with disk_errors(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([key, verdict]) + "\n")

    def _read(self) -> dict[str, Any]:
        """Verdicts by the hash of what was asked; a line that a killed run left torn is none."""
        if not self._path.is_file():
            return {}
        known = {}
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                key, verdict = json.loads(line)
            except ValueError:
                continue
            known[key] = verdict
        return known


def judge_language(settings: Judge, references: Sequence[str]) -> Language:
    """The language of the prompt: as set, or that of most of the references' letters."""
    if settings.language == "auto":
        return "zh" if mostly_chinese(list(references)) else "en"
    return settings.language


def _unread(missing: int, rows: int, odd: Sequence[str]) -> list[str]:
    if not missing:
        return []
    shown = " ".join(odd[0].split())[:_SHOWN] if odd else ""
    return [f"{missing} of {rows} rows got no verdict that could be read and are left out, e.g. '{shown}'"]
