"""Settings from files and flags: one strict pydantic base, and errors that name the nearest key."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from nacre.base.errors import InputError, nearest

T = TypeVar("T", bound=BaseModel)


class Settings(BaseModel):
    """Base of every settings class: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def parse(model: type[T], data: Mapping[str, Any], *, where: str, text: str = "") -> T:
    """Validate `data` against `model`.

    Args:
        model: the settings class.
        data: what was read.
        where: the file or flag the data came from.
        text: the file's YAML text, when there is one, to name the line of a bad key.

    Raises:
        InputError: a key is unknown or a value is wrong; names line, key and the nearest known key.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problem = error.errors()[0]
        location = problem["loc"]
        path = _path_in(data, location)
        key = ".".join(str(part) for part in path) or where
        line = _line_of(text, path)
        place = f"{where}{f', line {line}' if line else ''}{f', key {key}' if path else ''}"
        if problem["type"] == "extra_forbidden":
            known = _known_keys(model, location[:-1])
            close = nearest(str(path[-1]), known)
            hint = f"did you mean '{close}'? " if close else ""
            raise InputError(f"unknown key '{key}'", where=place, fix=f"{hint}Known: {', '.join(known)}") from None
        if problem["type"] == "missing":
            raise InputError(f"the key '{key}' is missing", where=place, fix=f"add {path[-1]}") from None
        raise InputError(
            f"bad value for '{key}'", where=place, fix=f"{problem['msg']}{_given(key, problem['input'])}"
        ) from None


def _given(key: str, value: Any) -> str:
    """What the user wrote, for the message, unless it may be a secret."""
    return "" if any(word in key for word in ("key", "secret", "password", "url", "uri")) else f"; got {value!r}"


class _Words(yaml.SafeLoader):
    """YAML in which every key is a word: plain YAML 1.1 would read the key ``on`` as true."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:bool":
                key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> tuple[dict[str, Any], str]:
    """Read a YAML file that must hold a mapping; returns the mapping and the text.

    Raises:
        InputError: missing, not UTF-8, not YAML (with the line), or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError("the file does not exist", where=str(path), fix="check the path") from None
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8: byte {error.start}", where=str(path), fix="save the file as UTF-8") from None
    try:
        data = yaml.load(text, Loader=_Words)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or "cannot be parsed"
        raise InputError(f"not valid YAML: {reason}", where=f"{path}{line}", fix="correct that line") from None
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise InputError("the file must hold key: value lines", where=str(path), fix="see docs/configuration.md")
    return data, text


def _path_in(data: Mapping[str, Any], location: Sequence[int | str]) -> list[int | str]:
    """The part of pydantic's location that the user wrote: the names of union members are left out."""
    path: list[int | str] = []
    value: Any = data
    for place, step in enumerate(location):
        named = isinstance(value, Mapping) and step in value
        numbered = isinstance(value, Sequence) and isinstance(step, int)
        if named or numbered:
            value = value[step]
        elif place < len(location) - 1 or not isinstance(value, Mapping):
            continue
        path.append(step)
    return path


def _known_keys(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """Field names of the settings class that `location` leads to below `model`."""
    candidates = [model]
    for step in location:
        tagged = [
            kind for kind in candidates if "name" in kind.model_fields and kind.model_fields["name"].default == step
        ]
        fields = [kind.model_fields[step] for kind in candidates if isinstance(step, str) and step in kind.model_fields]
        candidates = tagged or [kind for field in fields for kind in _classes(field.annotation)] or candidates
    return sorted({name for kind in candidates for name in kind.model_fields})


def _classes(annotation: Any) -> list[type[BaseModel]]:
    """Every settings class named anywhere in a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [kind for part in getattr(annotation, "__args__", ()) for kind in _classes(part)]


def _line_of(text: str, path: Sequence[int | str]) -> int | None:
    """The 1-based line of the key at `path` in a YAML text."""
    if not text or not path:
        return None
    node = yaml.compose(text)
    line = None
    for step in path:
        if isinstance(node, yaml.MappingNode):
            pair = next((pair for pair in node.value if pair[0].value == step), None)
            if pair is None:
                return line
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
            line = node.start_mark.line + 1
    return line
