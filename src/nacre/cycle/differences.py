"""What differs between the environment a version was made in and another one; asked without loading a library."""

from importlib.metadata import PackageNotFoundError, version

from nacre.records import Environment

PACKAGES = ("torch", "transformers", "tokenizers", "peft")  # those that decide what a version answers


def installed_differences(made: Environment) -> list[str]:
    """What differs in the libraries that are installed here.

    A version brings its tokenizer and template with it, so they can only differ through a library; `differences` of a
    whole environment looks.
    """
    return differences(made, made.changed(packages={name: _installed(name) for name in PACKAGES}))


def differences(made: Environment, here: Environment) -> list[str]:
    """What differs and may change answers, in sentences; what was not written down is not compared."""
    found = []
    for name in PACKAGES:
        before, now = made.packages.get(name), here.packages.get(name)
        if before and before != now:
            found.append(f"{name} was {before} when it was trained, and is {now or 'not installed'} here")
    for field, told in (
        ("tokenizer", "the tokenizer has another vocabulary than in training"),
        ("template", "the chat template is not the one of training"),
        ("tokens", "the same conversation becomes other tokens than in training"),
    ):
        before, now = getattr(made, field), getattr(here, field)
        if before and before != now:
            found.append(told)
    return found


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
