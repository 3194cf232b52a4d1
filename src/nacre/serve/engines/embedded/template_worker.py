"""A process that renders chat templates and nothing else, so that one that does not end can be ended.

Started by `templates.Renderer`; speaks lines of JSON: {"template", "variables"} in, {"text"} or {"refused"} out. Its
memory and processor time are limited by the operating system. It imports jinja2 alone. The environment is the one that
chat templates are written for, as transformers documents it: a sandbox without assignments to what is not the
template's own, `raise_exception`, `strftime_now`, `tojson` without HTML's escapes, ``{% generation %}``.
"""

import json
import resource
import sys
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox
import jinja2.utils

# What a template may raise in the hands of Python; whatever else it does ends the process.
_FAULTS = (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


class Generation(jinja2.ext.Extension):
    """``{% generation %}`` marks an answer for those who train; its text stays as it is."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own type

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        """The body, as it is."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


class Namespace(jinja2.utils.Namespace):
    """A namespace without names that begin with an underscore."""

    def __init__(*args: Any, **names: Any) -> None:
        self, given = args[0], dict(*args[1:], **names)
        for name in given:
            _allowed(name)
        jinja2.utils.Namespace.__init__(self, given)

    def __setitem__(self, name: str, value: Any) -> None:
        _allowed(name)
        super().__setitem__(name, value)


class Dict:
    """`dict`, with nothing but its two ways to be made."""

    def __call__(self, *args: Any, **names: Any) -> dict[Any, Any]:
        return dict(*args, **names)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        """As `dict.fromkeys`."""
        return dict.fromkeys(*args)


def _allowed(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"names that begin with an underscore are not stored: {name!r}")


def _refuse(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    """Where templates are rendered."""
    found = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    found.filters["tojson"] = _tojson
    found.globals |= {
        "raise_exception": _refuse,
        "strftime_now": lambda form: datetime.now().strftime(form),
        "dict": Dict(),
        "namespace": Namespace,
    }
    return found


def main(memory_bytes: int, most_characters: int) -> None:
    """Answer until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    made, templates = environment(), {}
    for line in sys.stdin:
        try:
            asked = json.loads(line)
            source = asked["template"]
            if source not in templates:
                templates = {source: made.from_string(source)}
            pieces, size = [], 0
            for piece in templates[source].generate(**asked["variables"]):
                size += len(piece)
                if size > most_characters:
                    _refuse(f"it writes more than {most_characters} characters")
                pieces.append(piece)
            answer = {"text": "".join(pieces)}
        except MemoryError:
            answer = {"refused": "it takes too much memory"}
        except _FAULTS as error:
            answer = {"refused": f"{type(error).__name__}: {error}"[:500]}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
