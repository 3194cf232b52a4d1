"""What a version was made with and what is here now: libraries, tokenizer and chat template.

Articles on running models ask that training and serving happen in the same environment. What differs is said once for
each version, or refused where `environment: refuse` stands in nacre.yaml.
"""

from collections.abc import Callable
from pathlib import Path

from nacre.base.errors import InputError
from nacre.base.hashing import content_hash, sha256_text
from nacre.cycle.differences import differences
from nacre.cycle.workspace import Workspace
from nacre.model.chat import prompt_ids
from nacre.model.environment import environment
from nacre.model.load import load_tokenizer
from nacre.records import Environment, Message, Version, Weights

_PROBE = (
    Message(role="user", content="What is 2 + 2?\n请用一个词回答。"),
    Message(role="assistant", content="4 – naïve 🙂"),
    Message(role="user", content="def f(x):\n\treturn x  # 10%"),
)


def environment_of(weights: Weights | Path) -> Environment:
    """What is here now, with the tokenizer and the template that lie beside these weights, as it reads them."""
    if isinstance(weights, Path):
        weights = Weights(identity="", model=str(weights))
    tokenizer = load_tokenizer(weights)
    try:
        tokens = content_hash(prompt_ids(_PROBE, tokenizer, system="Be brief."))
    except InputError:
        tokens = ""  # a template that refuses this conversation
    vocabulary = [sorted(tokenizer.get_vocab().items()), sorted(map(str, tokenizer.all_special_tokens))]
    return environment().changed(
        tokenizer=content_hash(vocabulary), template=sha256_text(str(tokenizer.chat_template)), tokens=tokens
    )


def refuse_another(workspace: Workspace, weights: Weights) -> None:
    """Before these weights answer anything: make sure that they may, where `environment` is `refuse`.

    Weights that no version has, the base model's or a candidate's, were made nowhere else.

    Raises:
        InputError: they were made in another environment.
    """
    if workspace.settings.environment == "refuse":
        made = [version for version in workspace.ledger.versions() if version.artifact == weights.identity]
        for version in made[-1:]:
            checked(workspace, lambda _: None)(version)


def checked(workspace: Workspace, tell: Callable[[str], None]) -> Callable[[Version], Weights]:
    """`Workspace.weights`, which first compares environments: it tells what differs once for each version, or refuses.

    The function that is returned raises InputError where something differs and `environment` is `refuse`.
    """
    told: set[int] = set()

    def weights(version: Version) -> Weights:
        found = workspace.weights(version)
        differing = differences(version.environment, environment_of(found))
        if differing and workspace.settings.environment == "refuse":
            raise InputError(
                f"version {version.number} was made in another environment: {'; '.join(differing)}",
                where="environment: refuse",
                fix="install what it was made with (nacre versions show has it), or set environment: show",
            )
        if differing and version.number not in told:
            told.add(version.number)
            tell(f"version {version.number}: {'; '.join(differing)}")
        return found

    return weights
