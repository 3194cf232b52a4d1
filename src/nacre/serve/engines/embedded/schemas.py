"""Which JSON schemas xgrammar really holds an answer to.

xgrammar compiles any schema and says nothing of the keywords that it leaves out, or that it reads more widely than
they are meant. So a schema is walked first, and refused where an answer could be drawn that does not fit it. What an
answer may be is allowed to be narrower than the schema: xgrammar takes a pattern for the whole text, and an object
that says nothing of other keys for a closed one.
"""

from collections.abc import Callable
from fractions import Fraction
from graphlib import CycleError, TopologicalSorter
from math import ceil, floor, inf
from typing import Any, NoReturn

from nacre.base.errors import InputError
from nacre.serve.engines.embedded.schema_branches import TOGETHER, Branches, comparable, kind_of
from nacre.serve.engines.embedded.schema_patterns import PATTERNS, spelled, why_not, written_out

_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_LENGTHS = ("minLength", "maxLength")
_KEYWORDS: dict[str, tuple[str, ...]] = {
    "null": (),
    "boolean": (),
    "integer": _NUMBERS,
    "number": _NUMBERS,
    "string": (*_LENGTHS, "pattern", "format"),
    "array": (
        *("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"),
        *("minContains", "maxContains", "unevaluatedItems"),
    ),
    "object": (
        *("properties", "required", "additionalProperties", "patternProperties", "propertyNames", "minProperties"),
        *("maxProperties", "dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties"),
    ),
}
_NOWHERE = {"not", "if", "$dynamicRef", "$recursiveRef"}
_ASSERTIONS = {
    *TOGETHER,
    *_NOWHERE,
    "type",
    "enum",
    "const",
    *(word for words in _KEYWORDS.values() for word in words),
}
# Formats that xgrammar holds to, beside those that become patterns. The others of the standard it reads as any text,
# and its JSON pointers let quotes through that end the text. A word that is not the standard's is the reader's own.
_FORMATS = {*PATTERNS, *("duration", "ipv6", "uri", "uri-reference", "uri-template", "uuid")}
_OTHER_FORMATS = {
    *("json-pointer", "relative-json-pointer", "regex", "iri", "iri-reference", "idn-email", "idn-hostname"),
}
_UNIT = 10**6  # xgrammar writes six decimals at most of a number that has bounds
_MOST_STEP, _MOST_STEPS = 1024, 10_000  # beyond, xgrammar leaves multipleOf out
_SHOWN = 200  # characters of a place that an error repeats


def enforceable(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as xgrammar is to read it, which may change this one in place: formats that it reads too widely
    become patterns.

    Raises:
        InputError: an answer that xgrammar draws from it may not fit it. The error names the keyword and its place.
    """
    _Walk(schema).run()
    return schema


def _refuse(word: str, place: str, why: str, fix: str) -> NoReturn:
    shown = place if len(place) <= _SHOWN else place[:_SHOWN] + "…"
    raise InputError(f"the JSON schema cannot be enforced: '{word}' at {shown} {why}", where="response_format", fix=fix)


def _refuse_beside(word: str, allowed: set[str], said: list[str], place: str) -> None:
    for other in said:
        if other not in allowed:
            _refuse(other, place, f"stands beside '{word}', and would be left out", "write one or the other")


class _Walk:
    """One walk over a schema: from the root through everything that an answer's parts are compared with.

    It keeps a list of what is left to do instead of calling itself, so no depth is too much for it.
    """

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._left: list[tuple[Any, str]] = [(root, "#")]
        self._seen: set[int] = set()
        self._places: dict[int, str] = {}
        self._same: dict[int, list[int]] = {}  # nodes, and those that must fit the same part of an answer
        self._pointed = False
        self._renamed = ""  # a place below the root with an $id of its own
        self._one_of: list[tuple[dict[str, Any], str]] = []

    def run(self) -> None:
        while self._left:
            node, place = self._left.pop()
            if node is True or id(node) in self._seen:
                continue
            if node is False:
                _refuse("false", place, "lets nothing fit", "leave it out")
            if not isinstance(node, dict):
                _refuse("schema", place, "is none", "write an object or true")
            self._seen.add(id(node))
            self._places[id(node)] = place
            self._node(node, place)
        self._check_refs()
        branches = Branches(lambda node: self._target(node, "#"))
        for node, place in self._one_of:
            reason = branches.why_not(node["oneOf"])
            if reason:
                fix = "write anyOf, or require a property whose const differs from branch to branch"
                _refuse("oneOf", place, reason, fix)

    def _check_refs(self) -> None:
        if self._pointed and self._renamed:
            _refuse("$id", self._renamed, "moves what a $ref points to", "leave $id out below the root")
        try:
            TopologicalSorter(self._same).prepare()
        except CycleError as error:
            place = min((self._places[one] for one in error.args[1]), key=len)
            _refuse("$ref", place, "leads back to itself", "let it stand below properties or items")

    def _node(self, node: dict[str, Any], place: str) -> None:
        self._pointed |= "$ref" in node
        if place != "#" and isinstance(node.get("$id"), str) and not node["$id"].startswith("#"):
            self._renamed = place
        said = [word for word in node if word in _ASSERTIONS and not _neutral(word, node[word])]
        for word in set(said) & _NOWHERE:
            _refuse(word, place, "is not supported", "leave it out, and check the answer yourself")
        leading = [word for word in (*TOGETHER, "enum", "const", "type") if word in said][:1] or said[:1]
        for word in leading:
            if word in TOGETHER:
                _refuse_beside(word, {word}, said, place)
                self._together(word, node, place)
            elif word in ("enum", "const"):
                _refuse_beside(word, {"enum", "const", "type"}, said, place)
                _check_values(node, place)
            elif word == "type":
                for kind in _types(node, place):
                    _CHECKS[kind](self, node, place, kind)
            else:
                _refuse(word, place, "has no 'type' beside it", "say which type is meant")

    def _together(self, word: str, node: dict[str, Any], place: str) -> None:
        inside: list[Any]
        if word == "$ref":
            inside = [self._target(node, place)]
            self._left.append((inside[0], str(node["$ref"])))
        else:
            inside = node[word] if isinstance(node[word], list) else []
            if not inside:
                _refuse(word, place, "lists nothing", "list at least one schema")
            if word == "allOf" and len(inside) > 1:
                _refuse(word, place, "has several members", "merge them into one schema")
            if word == "oneOf":
                self._one_of.append((node, place))
            self._left += [(one, f"{place}/{word}/{index}") for index, one in enumerate(inside)]
        self._same[id(node)] = [id(one) for one in inside if isinstance(one, dict)]

    def _target(self, node: dict[str, Any], place: str) -> Any:
        """What $ref names. xgrammar reads the names as they are, without the escapes of JSON pointers."""
        named = node["$ref"]
        if not isinstance(named, str) or (named != "#" and not named.startswith("#/")):
            _refuse("$ref", place, "points elsewhere", "put what it names into $defs, and write #/$defs/…")
        found: Any = self._root
        for part in named.split("/")[1:]:
            found = found.get(part) if isinstance(found, dict) and not {"~", "%"} & set(part) else None
        if not isinstance(found, dict | bool):
            _refuse("$ref", place, "names nothing in the schema", "write #/$defs/ and a name without ~ and %")
        return found

    def string(self, node: dict[str, Any], place: str, kind: str) -> None:
        _check_counts(node, place, *_LENGTHS)
        said: list[str] = [word for word in ("pattern", "format") if word in node and not _neutral(word, node[word])]
        said += [word for word in _LENGTHS if word in node][:1]
        if "format" in said and not isinstance(node["format"], str):
            _refuse("format", place, "is no text", "write the name of one format")
        if "format" in said and node["format"] in _OTHER_FORMATS:
            _refuse("format", place, f"'{node['format']}' is not supported", "write a pattern, or leave it out")
        if len(said) > 1:
            _refuse(said[1], place, f"stands beside '{said[0]}'", "say it all in one pattern, such as ^[a-z]{2,5}$")
        if said == ["format"] and node["format"] in PATTERNS:
            node["pattern"] = PATTERNS[node.pop("format")]
        if "pattern" in node:
            node["pattern"] = _pattern("pattern", node["pattern"], place)

    def number(self, node: dict[str, Any], place: str, kind: str) -> None:
        for word in _NUMBERS:
            value = node.get(word, 0)
            if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) == inf or value != value:
                _refuse(word, place, "is no number", "write a number")
        low, high = _bounds(node, 1 if kind == "integer" else _UNIT)
        if kind == "integer" and "multipleOf" in node:
            step, steps = node["multipleOf"], -1 if low is None and high is None else _MOST_STEPS
            if low is not None and high is not None:
                steps = high - low
            if step != int(step) or not 1 <= step <= _MOST_STEP or steps >= _MOST_STEPS:
                fix = f"a whole number up to {_MOST_STEP}, without bounds or with both, at most {_MOST_STEPS} apart"
                _refuse("multipleOf", place, "is not supported as it stands", f"write {fix}")
        elif "multipleOf" in node:
            _refuse("multipleOf", place, "is not supported for 'number'", "write integer, or leave it out")
        if low is not None and high is not None and low > high:
            word = next(word for word in _NUMBERS if word in node)
            _refuse(word, place, "leaves no number between the bounds", "six decimals are written at most")

    def array(self, node: dict[str, Any], place: str, kind: str) -> None:
        _check_counts(node, place, "minItems", "maxItems")
        for word in ("contains", "uniqueItems"):
            if word in node and not _neutral(word, node[word]):
                _refuse(word, place, "is not supported", "leave it out, and check the answer yourself")
        if node.get("unevaluatedItems", False) is not False:
            _refuse("unevaluatedItems", place, "is not supported", "write items")
        if isinstance(node.get("items"), list) or not isinstance(node.get("prefixItems", []), list):
            word = "items" if isinstance(node.get("items"), list) else "prefixItems"
            _refuse(word, place, "is of the wrong form", "write one schema for items, a list for prefixItems")
        self._left += [(one, f"{place}/prefixItems/{index}") for index, one in enumerate(node.get("prefixItems", []))]
        if node.get("items", False) is not False:
            self._left.append((node["items"], f"{place}/items"))

    def object(self, node: dict[str, Any], place: str, kind: str) -> None:
        _check_counts(node, place, "minProperties", "maxProperties")
        for word in ("dependentRequired", "dependentSchemas", "dependencies"):
            if word in node:
                _refuse(word, place, "is not supported", "write one schema for each case, below anyOf")
        if node.get("unevaluatedProperties", False) is not False:
            _refuse("unevaluatedProperties", place, "is not supported", "write additionalProperties")
        for word in ("properties", "patternProperties"):
            if not isinstance(node.get(word, {}), dict):
                _refuse(word, place, "is of the wrong form", "write a schema for each key")
        properties, required = node.get("properties", {}), node.get("required", [])
        if not isinstance(required, list):
            _refuse("required", place, "is no list", "list the keys that must be there")
        for name in required:
            if not isinstance(name, str) or name not in properties:
                _refuse("required", place, f"names {name!r:.60}, which is not in 'properties'", "add it to properties")
        self._left += [(one, f"{place}/properties/{_escaped(name)}") for name, one in properties.items()]
        self._other_keys(node, place)

    def _other_keys(self, node: dict[str, Any], place: str) -> None:
        """Keys without a name of their own. One may be written twice, or a named one again as ``\\u0061``."""
        if node.get("propertyNames") is True or node.get("propertyNames") == {}:  # not 1, which equals True
            del node["propertyNames"]
        patterns, more = node.get("patternProperties", {}), node.get("additionalProperties", False)
        opening = [word for word in ("patternProperties", "propertyNames", "additionalProperties") if node.get(word)]
        if node.get("additionalProperties") == {}:
            opening.append("additionalProperties")
        if opening and node.get("properties"):
            fix = "write additionalProperties: false, or put the other keys into an object of their own"
            _refuse(opening[0], place, "stands beside 'properties': a key could come twice", fix)
        if opening and node.get("minProperties", 0) > 1:
            _refuse("minProperties", place, "counts a key that comes twice", "write 1, or name the keys in properties")
        if len(patterns) > 1 or (patterns and len(opening) > 1):
            _refuse(
                "patternProperties",
                place,
                "says more than one thing of a key",
                "write one pattern and no additionalProperties",
            )
        for pattern, one in patterns.items():
            node["patternProperties"] = {_pattern("patternProperties", pattern, place): one}
            self._left.append((one, f"{place}/patternProperties/{_escaped(pattern)}"))
        if "propertyNames" in node:
            self._names(node, place)
        if more is not False:
            self._left.append((more, f"{place}/additionalProperties"))

    def _names(self, node: dict[str, Any], place: str) -> None:
        if node.get("additionalProperties", True) is False:
            _refuse("propertyNames", place, "stands beside additionalProperties: false", "leave one of them out")
        named, below = node["propertyNames"], f"{place}/propertyNames"
        for _ in range(len(TOGETHER) * 8):  # a circle of $ref is refused below
            if not isinstance(named, dict) or [word for word in named if word in _ASSERTIONS] != ["$ref"]:
                break
            self._pointed = True
            named, below = self._target(named, below), str(named["$ref"])
        named = {} if named is True else named
        if not isinstance(named, dict) or named.get("type", "string") != "string":
            _refuse("propertyNames", place, "does not stand for texts", "write a schema of type string")
        for word in TOGETHER:
            if word in named:
                _refuse("propertyNames", place, f"says '{word}' of the keys", "write one schema of type string")
        texts = named.get("enum", [])
        if "type" not in named and isinstance(texts, list) and not all(isinstance(one, str) for one in texts):
            _refuse("enum", below, "lists what is no text, and no key", "list texts only")
        if "type" not in named and not isinstance(named.get("const", ""), str):
            _refuse("const", below, "is no text, and no key", "write a text")
        node["propertyNames"] = {"type": "string"} | named
        self._node(node["propertyNames"], below)


_CHECKS: dict[str, Callable[[_Walk, dict[str, Any], str, str], None]] = {
    "null": lambda walk, node, place, kind: None,
    "boolean": lambda walk, node, place, kind: None,
    "integer": _Walk.number,
    "number": _Walk.number,
    "string": _Walk.string,
    "array": _Walk.array,
    "object": _Walk.object,
}


def _neutral(word: str, value: Any) -> bool:
    """Whether a keyword asks for nothing."""
    return (word == "uniqueItems" and value is False) or (
        word == "format" and isinstance(value, str) and value not in _FORMATS | _OTHER_FORMATS
    )


def _pattern(word: str, pattern: Any, place: str) -> str:
    reason = why_not(pattern)
    try:
        if not reason:
            return spelled(written_out(pattern))
    except ValueError as error:
        reason = f"cannot be read: {error}"
    _refuse(word, place, reason, "write a simpler pattern")


def _types(node: dict[str, Any], place: str) -> list[str]:
    types = [node["type"]] if isinstance(node["type"], str) else node["type"]
    if not isinstance(types, list) or not types or not all(isinstance(one, str) and one in _KEYWORDS for one in types):
        _refuse("type", place, "is none of JSON's", f"write one of {', '.join(_KEYWORDS)}, or a list of them")
    return types


def _check_counts(node: dict[str, Any], place: str, *words: str) -> None:
    for word in words:
        value = node.get(word, 0)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            _refuse(word, place, "is no count", "write a whole number, 0 or more")


def _bounds(node: dict[str, Any], unit: int) -> tuple[int | None, int | None]:
    """The lowest and the highest number that may be written, in steps of 1 / unit."""
    lows = [ceil(_exact(node["minimum"]) * unit)] if "minimum" in node else []
    lows += [floor(_exact(node["exclusiveMinimum"]) * unit) + 1] if "exclusiveMinimum" in node else []
    highs = [floor(_exact(node["maximum"]) * unit)] if "maximum" in node else []
    highs += [ceil(_exact(node["exclusiveMaximum"]) * unit) - 1] if "exclusiveMaximum" in node else []
    return max(lows, default=None), min(highs, default=None)


def _exact(value: float) -> Fraction:
    """A number as it is written, which is what an answer's digits are compared with."""
    return Fraction(value) if isinstance(value, int) else Fraction(repr(value))


def _check_values(node: dict[str, Any], place: str) -> None:
    """enum and const, and that each value is of the type beside them."""
    word = "enum" if "enum" in node else "const"
    listed = node[word] if word == "enum" else [node["const"]]
    if not isinstance(listed, list) or not listed:
        _refuse(word, place, "lists nothing", "list at least one value")
    if "enum" in node and "const" in node and comparable(node["const"]) not in map(comparable, listed):
        _refuse("const", place, "is not in 'enum'", "leave one of them out")
    types = _types(node, place) if "type" in node else list(_KEYWORDS)
    for value in listed:
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if kind_of(value) not in types and not ("integer" in types and whole and not isinstance(value, bool)):
            _refuse("type", place, f"does not fit a value of '{word}'", "list values of that type only")
    left: list[Any] = [*listed, node.get("const")]
    while left:
        value = left.pop()
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            _refuse(word, place, "has a number of more than 64 bits", "write it as a text")
        left += value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
