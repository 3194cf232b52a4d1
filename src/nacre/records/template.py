"""Texts with places in braces, into which a row is put: `{question}`, or any column that the row has."""

import string

QUESTION = "question"


def slots(template: str) -> set[str]:
    """The names of a template's places.

    Raises:
        ValueError: a brace is not closed.
    """
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def with_a_question(templates: tuple[str, ...]) -> tuple[str, ...]:
    """The templates, if each can be read and has a place for the question.

    Raises:
        ValueError: says which and why.
    """
    for template in templates:
        try:
            names = slots(template)
        except ValueError as error:
            raise ValueError(f"the template {template!r} cannot be read: {error}") from None
        if QUESTION not in names:
            raise ValueError(f"the template {template!r} must hold {{{QUESTION}}}")
        if "" in names:
            raise ValueError(f"a place of the template {template!r} has no name")
    return templates
