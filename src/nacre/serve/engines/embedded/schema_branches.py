"""What the branches of a JSON schema's oneOf can be, and whether two of them have an answer in common."""

from collections.abc import Callable
from itertools import combinations
from typing import Any, NamedTuple

TOGETHER = ("$ref", "anyOf", "oneOf", "allOf")  # keywords that leave it to other schemas what an answer is
_KINDS = frozenset({"null", "boolean", "number", "string", "array", "object"})
_MOST_BRANCHES, _MOST_PAIRS = 128, 20_000  # more would keep the engine from its answers

_Values = frozenset[tuple[str, object]]


class _Alternative(NamedTuple):
    """Kinds of JSON, the values where they are listed, and the required keys whose values are listed."""

    kinds: frozenset[str]
    values: _Values | None
    marks: dict[str, _Values]


class Branches:
    """Compares branches. The schema has been walked: every `$ref` leads somewhere, and none in a circle.

    Args:
        target: what the `$ref` of a node names.
    """

    def __init__(self, target: Callable[[dict[str, Any]], Any]) -> None:
        self._target = target
        self._known: dict[int, _Alternative] = {}
        self._left = _MOST_PAIRS

    def why_not(self, branches: list[Any]) -> str:
        """Why an answer might fit two of the branches; empty where none can."""
        groups: list[list[_Alternative]] = []
        for branch in branches:
            leaves = self._leaves(branch)
            if leaves is None:
                return "has too many branches"
            groups.append([self._alternative(leaf) for leaf in leaves])
        for first, second in combinations(groups, 2):
            self._left -= len(first) * len(second)
            if self._left < 0:
                return "has too many branches"
            if any(_overlap(one, other) for one in first for other in second):
                return "has branches that one answer could fit both"
        return ""

    def _leaves(self, branch: Any) -> list[Any] | None:
        """The schemas that a branch comes down to, or None for too many."""
        left: list[Any] = [branch]
        found: list[Any] = []
        for _ in range(_MOST_BRANCHES):
            if not left:
                return found
            node = left.pop()
            ways = [word for word in TOGETHER if isinstance(node, dict) and word in node]
            if not ways:
                found.append(node)
            else:
                left += [self._target(node)] if ways[0] == "$ref" else node[ways[0]]
        return None

    def _alternative(self, node: Any) -> _Alternative:
        if not isinstance(node, dict):
            return _Alternative(_KINDS, None, {})
        if id(node) not in self._known:
            self._known[id(node)] = self._made(node)
        return self._known[id(node)]

    def _made(self, node: dict[str, Any]) -> _Alternative:
        if "enum" in node or "const" in node:
            return _Alternative(frozenset(map(kind_of, listed(node))), _values(node), {})
        types = [node["type"]] if isinstance(node.get("type"), str) else node.get("type", _KINDS)
        kinds = frozenset("number" if one == "integer" else one for one in types)
        required = set(node.get("required", ())) if "object" in kinds else set()
        found = {name: _values(self._followed(node["properties"][name])) for name in required}
        return _Alternative(kinds, None, {name: values for name, values in found.items() if values is not None})

    def _followed(self, node: Any) -> Any:
        while isinstance(node, dict) and ("$ref" in node or "allOf" in node):
            node = self._target(node) if "$ref" in node else node["allOf"][0]
        return node


def kind_of(value: Any) -> str:
    """The JSON kind of a value. Integers are numbers."""
    for kind, types in (("null", type(None)), ("boolean", bool), ("number", int | float), ("string", str)):
        if isinstance(value, types):
            return kind
    return "array" if isinstance(value, list) else "object"


def listed(node: dict[str, Any]) -> list[Any]:
    """The values that a schema with `const` or `enum` lets through."""
    return [node["const"]] if "const" in node else list(node["enum"])


def comparable(value: Any) -> tuple[str, object]:
    """Equal for values that JSON schemas call equal: 1 and 1.0, but not 1 and true."""
    return kind_of(value), repr(value) if isinstance(value, list | dict) else value


def _values(node: Any) -> _Values | None:
    """What a schema lists, if each is plain: lists and objects are not compared."""
    if not isinstance(node, dict) or not ("enum" in node or "const" in node):
        return None
    values = listed(node)
    return None if any(isinstance(value, list | dict) for value in values) else frozenset(map(comparable, values))


def _overlap(one: _Alternative, other: _Alternative) -> bool:
    shared = one.kinds & other.kinds
    if not shared:
        return False
    if one.values is not None and other.values is not None:
        return not one.values.isdisjoint(other.values)
    apart = any(one.marks[name].isdisjoint(other.marks[name]) for name in one.marks.keys() & other.marks.keys())
    return not (shared == {"object"} and apart)
