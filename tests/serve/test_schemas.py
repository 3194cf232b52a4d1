"""JSON schemas: what is drawn from one fits it, and what cannot be held to is refused by the keyword's name."""

import json
import random
import re
import time
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, Optional, Union

import jsonschema_rs
import pytest
import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from nacre.base.errors import InputError
from nacre.serve.engines import JsonFormat

pytest.importorskip("xgrammar")

from nacre.serve.engines.embedded.constrain import Constrainer
from nacre.serve.engines.embedded.schemas import enforceable

PIECES = [chr(code) for code in range(128)] + [*"é中第章\u2028\u3000😀", "\\u0061", "\\u00", "</s>"]
STOP = len(PIECES) - 1
PRINTABLE = frozenset(range(32, 126)) | frozenset(range(128, STOP))
CLOSING = frozenset(map(ord, '"]}'))
NULL, INT, TEXT = {"type": "null"}, {"type": "integer"}, {"type": "string"}
FORMATS = ("date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uri-reference", "uuid")


def obj(**words: Any) -> dict[str, Any]:
    return {"type": "object", **words}


def arr(**words: Any) -> dict[str, Any]:
    return {"type": "array", **words}


def text(**words: Any) -> dict[str, Any]:
    return {"type": "string", **words}


def num(kind: str = "number", **words: Any) -> dict[str, Any]:
    return {"type": kind, **words}


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Place(BaseModel):
    """Where it lies."""

    x: float = Field(ge=-1.5, lt=2)
    y: Annotated[float, Field(gt=0)] = 1.0


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(ge=0, le=9)


class Dog(BaseModel):
    kind: Literal["dog", "wolf"]
    name: str = Field(min_length=1, max_length=8)


class Tree(BaseModel):
    value: int
    children: list["Tree"] = []
    other: Optional["Tree"] = None


class Everything(BaseModel):
    model_config = ConfigDict(extra="forbid")

    colour: Colour
    maybe: int | None = None
    place: Place = Field(description="nested", examples=[{"x": 1}])
    word: Literal["a", 1, None]
    many: list[str] = Field(min_length=1, max_length=3)
    counts: dict[str, int]
    by_colour: dict[Colour, int]
    by_word: dict[Literal["p", "q"], bool]
    by_name: dict[Annotated[str, Field(pattern="^[a-z]{2}$")], int]
    pair: tuple[int, str]
    code: str = Field(pattern=r"^[A-Z]{2}-\d{3}$")
    animal: Cat | Dog = Field(discriminator="kind")
    animals: list[Annotated[Cat | Dog, Field(discriminator="kind")]]
    price: Decimal | None = None


OPENAI = {
    "type": "object",
    "properties": {
        "steps": {"type": "array", "items": {"$ref": "#/$defs/step"}},
        "final_answer": {"type": ["string", "null"]},
        "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
    },
    "$defs": {
        "step": {
            "type": "object",
            "properties": {"explanation": {"type": "string"}, "output": {"type": "string"}},
            "required": ["explanation", "output"],
            "additionalProperties": False,
        }
    },
    "required": ["steps", "final_answer", "next"],
    "additionalProperties": False,
}
HELD: dict[str, dict[str, Any]] = {
    "anything": {},
    "annotations": {
        "type": "null",
        "title": "t",
        "x-own": 1,
        "$id": "http://a/b",
        "deprecated": True,
        "nullable": True,
    },
    "openai": OPENAI,
    "everything": Everything.model_json_schema(),
    "tree": Tree.model_json_schema(),
    "union": TypeAdapter(Cat | Dog | None).json_schema(),
    "json value": TypeAdapter(list[Union[int, "str", None]]).json_schema(),
    "enum": {"enum": [1, "a", None, 1.5, {"a": [1], "é": "\n/"}, True, [], 1e-7]},
    "const and enum": {"const": "a", "enum": ["a"], "type": "string"},
    "integers as numbers": {"type": "integer", "enum": [1, 2.0]},
    "kinds": {"type": ["string", "integer", "null"], "minLength": 2, "maxLength": 3, "minimum": 7},
    "kinds of many": {"type": ["object", "array"], "properties": {"a": NULL}, "items": INT, "required": ["a"]},
    "integer": num("integer", minimum=-17, exclusiveMaximum=120),
    "integer steps": num("integer", multipleOf=7),
    "integer steps between": num("integer", multipleOf=10, minimum=5, maximum=95),
    "number": num(minimum=-3.75, exclusiveMaximum=12.5),
    "number finely": num(exclusiveMinimum=0.1234561, maximum=0.1234599),
    "number far": num(minimum=1e18),
    "text": text(),
    "text of a length": text(minLength=2, maxLength=5),
    "long text": text(minLength=3),
    "own format": text(format="password", minLength=3),
    **{
        f"pattern {one}": text(pattern=one)
        for one in (
            *("^a|b$", 'x[^"\\\\]+', r"^(?:[\w.-]+)@\S{2}$", "^[!-~]{3}$", "^.+$"),
            *("^第.+章$", "^[^，]+$", "^(é|[^a])+$", r"^[ -ÿ]{1,3}$", r"^(中|\W)[\S ]$"),
        )
    },
    **{f"format {one}": text(format=one) for one in FORMATS},
    "list": arr(items=INT, minItems=2, maxItems=4),
    "any list": arr(),
    "list of anything": arr(items={}, maxItems=2),
    "prefix": arr(prefixItems=[NULL, INT], items=TEXT, minItems=1, maxItems=4),
    "pair": arr(prefixItems=[NULL, INT], minItems=2, maxItems=2, items=False),
    "closed": obj(properties={"a": NULL, "b": INT}, required=["b"], additionalProperties=False),
    "open by default": obj(properties={'a"\\': NULL, "é": INT, "": TEXT}),
    "count of keys": obj(properties={"a": NULL, "b": INT, "c": INT}, required=["b"], minProperties=2, maxProperties=2),
    "any object": obj(),
    "map": obj(additionalProperties=INT, minProperties=1, maxProperties=2),
    "names": obj(propertyNames={"minLength": 2, "maxLength": 3}, additionalProperties=INT, minProperties=1),
    "names of a pattern": obj(propertyNames={"pattern": "^x$"}, minProperties=1),
    "names by ref": obj(
        propertyNames={"$ref": "#/$defs/c"}, **{"$defs": {"c": text(enum=["a", "b"])}}, minProperties=1
    ),
    "names of a format": obj(propertyNames={"format": "email"}, minProperties=1),
    "names of anything": obj(propertyNames=True, properties={"a": NULL}, minProperties=1),
    "names of anything, none other": obj(propertyNames={}, properties={"a": NULL}, additionalProperties=False),
    "names of texts": obj(propertyNames=TEXT, additionalProperties=INT, minProperties=1),
    "names but for a character": obj(propertyNames={"pattern": "^[^é]+$"}, additionalProperties=INT, minProperties=1),
    "keys of a pattern": obj(patternProperties={"^x[a-z]?$": INT}, minProperties=1),
    "keys but for a character": obj(patternProperties={"^[^é]+$": {}}, minProperties=1),
    "one of kinds": {"oneOf": [NULL, TEXT, {"enum": [1, 2]}, {"const": 3}]},
    "all of one": {"allOf": [{"anyOf": [NULL, INT]}], "title": "x"},
    "list of itself": arr(items={"$ref": "#"}, maxItems=2),
    "deep ref": obj(properties={"a": obj(properties={"b": INT}), "c": {"$ref": "#/properties/a/properties/b"}}),
}
AB = {"anyOf": [NULL, INT]}
MARKED = [obj(properties={"k": {"const": one}}, required=["k"]) for one in "ab"]
REFUSED: list[tuple[Any, str, str]] = [
    (obj(properties={"a": NULL}, required=["a", "c"]), "required", "#"),
    (obj(additionalProperties=INT, required=["c"]), "required", "#"),
    (obj(properties={"a": {"anyOf": []}}), "anyOf", "#/properties/a"),
    ({"oneOf": []}, "oneOf", "#"),
    ({"allOf": []}, "allOf", "#"),
    (arr(items=num(multipleOf=0.1)), "multipleOf", "#/items"),
    (num("integer", multipleOf=7, minimum=5), "multipleOf", "#"),
    (num("integer", multipleOf=7, minimum=5, maximum=50_000), "multipleOf", "#"),
    (num("integer", multipleOf=5000), "multipleOf", "#"),
    (num("integer", multipleOf=2.5), "multipleOf", "#"),
    (num(exclusiveMinimum=5e-08, maximum=8e-07), "maximum", "#"),
    (num(minimum=True), "minimum", "#"),
    (text(**{"not": {"const": "a"}}), "not", "#"),
    ({"enum": [1, 2], "type": "string"}, "type", "#"),
    ({"enum": [1, True], "type": "integer"}, "type", "#"),
    ({"enum": []}, "enum", "#"),
    ({"const": 2, "enum": [1]}, "const", "#"),
    ({"const": {"a": [2**64]}}, "const", "#"),
    (text(enum=["ab"], minLength=3), "minLength", "#"),
    ({"$ref": "#/$defs/a", "minimum": 3, "$defs": {"a": INT}}, "minimum", "#"),
    ({"anyOf": [NULL, INT], "type": "integer"}, "type", "#"),
    (arr(contains=INT), "contains", "#"),
    (arr(items=INT, uniqueItems=True), "uniqueItems", "#"),
    (arr(unevaluatedItems=INT), "unevaluatedItems", "#"),
    (arr(items=[INT]), "items", "#"),
    (arr(items=INT, minItems=-1), "minItems", "#"),
    (text(maxLength=-1), "maxLength", "#"),
    (text(pattern="^a+$", minLength=3), "minLength", "#"),
    (text(pattern="^a+$", format="date"), "format", "#"),
    (text(format="date", maxLength=3), "maxLength", "#"),
    *((text(format=one), "format", "#") for one in ("json-pointer", ["date"], None, 3)),
    ({"type": ["integer", "string"], "format": {}}, "format", "#"),
    *((text(pattern=one), "pattern", "#") for one in ("^(?=a)b$", "^(?!a)b$", "(?<=a)b", "(?<!a)b", r"\bab", r"(a)\1")),
    *(
        (text(pattern=one), "pattern", "#")
        for one in ("a^b", "(a|b$)c", '^"x"$', r"^\\$", r"^\x22$", r"\t", r"^\Aa\Z$")
    ),
    *(
        (text(pattern=one), "pattern", "#")
        for one in ("[^]", r"[\x00-\x1f]", r"[\n]", '["]', r"\p{L}", "(?i)a", "\\", "(a{9}){999}", 3)
    ),
    *((text(pattern=one), "pattern", "#") for one in ("^😀.$", "[^😀]", r"\，", "^.{0,129}$", "a" * 5000)),
    *((text(pattern=one), "pattern", "#") for one in (r"^[^\S -ÿ]$", r"^[^\W\w]$", r"^x[^\D\d第]$", r"^[^\S ]$")),
    ({"oneOf": [INT, num()]}, "oneOf", "#"),
    ({"oneOf": [TEXT, {"const": "a"}]}, "oneOf", "#"),
    ({"oneOf": [obj(properties={"a": INT}), obj(properties={"b": INT})]}, "oneOf", "#"),
    ({"oneOf": [{"enum": [1, 2]}, {"enum": [2.0, 3]}]}, "oneOf", "#"),
    ({"oneOf": [{"$ref": "#/$defs/a"}, INT], "$defs": {"a": AB}}, "oneOf", "#"),
    ({"oneOf": [*MARKED, obj(properties={"k": {"const": "c"}})]}, "oneOf", "#"),
    ({"allOf": [NULL, INT]}, "allOf", "#"),
    ({"if": NULL, "then": INT}, "if", "#"),
    (obj(properties={"a": INT}, dependentRequired={"a": ["b"]}), "dependentRequired", "#"),
    (obj(properties={"a": INT}, dependentSchemas={"a": {}}), "dependentSchemas", "#"),
    (obj(properties={"a": INT}, unevaluatedProperties=INT), "unevaluatedProperties", "#"),
    (obj(properties={"a": INT}, additionalProperties=True), "additionalProperties", "#"),
    (obj(properties={"a": INT}, additionalProperties={}), "additionalProperties", "#"),
    (obj(properties={"a": INT}, propertyNames={"pattern": "^x"}), "propertyNames", "#"),
    (obj(properties={"a": INT}, patternProperties={"^x": NULL}), "patternProperties", "#"),
    (obj(patternProperties={"^x": NULL, "y$": INT}), "patternProperties", "#"),
    (obj(patternProperties={"^(?!x)": NULL}), "patternProperties", "#"),
    (obj(propertyNames={"enum": ["a", 1]}), "enum", "#/propertyNames"),
    (obj(propertyNames={"const": 1}), "const", "#/propertyNames"),
    (obj(propertyNames=text(enum=["a", 1])), "type", "#/propertyNames"),
    (obj(properties={"a": obj(propertyNames={"anyOf": [TEXT]})}), "propertyNames", "#/properties/a"),
    (obj(propertyNames={"$ref": "#/propertyNames"}), "propertyNames", "#"),
    (obj(propertyNames={"$ref": "#/$defs/c", "minLength": 2}, **{"$defs": {"c": TEXT}}), "propertyNames", "#"),
    *((obj(propertyNames=one), "propertyNames", "#") for one in (False, 1)),
    (obj(propertyNames={"type": "integer"}), "propertyNames", "#"),
    (obj(propertyNames={"enum": ["a"]}, additionalProperties=False), "propertyNames", "#"),
    (obj(additionalProperties=INT, minProperties=2), "minProperties", "#"),
    ({"minimum": 3}, "minimum", "#"),
    ({"properties": {"a": INT}}, "properties", "#"),
    (obj(properties={"a/b": {"pattern": "a"}}), "pattern", "#/properties/a~1b"),
    (obj(properties={"a": False}), "false", "#/properties/a"),
    (obj(properties={"a": 3}), "schema", "#/properties/a"),
    (obj(properties=[]), "properties", "#"),
    ({"type": []}, "type", "#"),
    ({"type": "any"}, "type", "#"),
    ({"$ref": "#"}, "$ref", "#"),
    ({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [NULL, {"$ref": "#/$defs/a"}]}}}, "$ref", "#/$defs/a"),
    ({"$ref": "#name", "$defs": {"a": {"$anchor": "name"}}}, "$ref", "#"),
    ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": INT}}, "$ref", "#"),
    ({"$dynamicRef": "#a"}, "$dynamicRef", "#"),
    (obj(properties={"a": obj(**{"$id": "http://a/b", "properties": {"c": {"$ref": "#"}}})}), "$id", "#/properties/a"),
]


@pytest.fixture(scope="module")
def constrainer() -> Constrainer:
    words = Tokenizer(models.WordLevel({piece: place for place, piece in enumerate(PIECES)}, unk_token="</s>"))
    return Constrainer(PreTrainedTokenizerFast(tokenizer_object=words), len(PIECES), {STOP})


def drawn(constrainer: Constrainer, schema: dict[str, Any] | None, seed: int, patience: int = 120) -> str | None:
    """A random answer, one allowed token after the other, that is soon eager to end; None where it does not."""
    constraint, chance, said = constrainer.constraint(JsonFormat(schema)), random.Random(seed), ""
    for step in range(4 * patience):
        logits_V = torch.zeros(len(PIECES))
        constraint.mask(logits_V)
        allowed = logits_V.isfinite().nonzero().flatten().tolist()
        assert allowed, f"nothing may follow {said!r}"
        if STOP in allowed and (len(allowed) == 1 or chance.random() < 0.6):
            return said
        ends, seen = [one for one in allowed if one in CLOSING], [one for one in allowed if one in PRINTABLE]
        among = seen if seen and chance.random() < 0.9 else allowed
        token = chance.choice(ends if ends and chance.random() < (0.25 if step < patience else 0.9) else among)
        if token == STOP:
            return said
        constraint.accept(token)
        said += PIECES[token]
    return None


def lets_through(constrainer: Constrainer, schema: dict[str, Any], answer: str) -> bool:
    constraint = constrainer.constraint(JsonFormat(schema))
    for token in [*map(PIECES.index, answer), STOP]:
        logits_V = torch.zeros(len(PIECES))
        constraint.mask(logits_V)
        if not logits_V[token].isfinite():
            return False
        constraint.accept(token)
    return True


@pytest.mark.parametrize("name", HELD)
def test_what_is_drawn_fits_the_schema(name: str, constrainer: Constrainer) -> None:
    fitting = jsonschema_rs.Draft202012Validator(HELD[name], validate_formats=True)
    answers = [drawn(constrainer, HELD[name], seed) for seed in range(25)]
    whole = [answer for answer in answers if answer is not None]
    assert whole, "no answer has come to its end"
    for answer in whole:
        assert fitting.is_valid(json.loads(answer)), answer


def test_any_object_is_json(constrainer: Constrainer) -> None:
    answers = [drawn(constrainer, None, seed) for seed in range(25)]
    assert all(isinstance(json.loads(answer), dict) for answer in answers if answer is not None)
    assert any(answer is not None for answer in answers)


def test_numbers_between_random_bounds_fit(constrainer: Constrainer) -> None:
    chance, refused = random.Random(0), 0
    for _ in range(150):
        low = round(chance.uniform(-1, 1) * chance.choice([1e-6, 1e-3, 1, 100, 1e6]), chance.choice([0, 1, 5, 6, 8]))
        high = round(low + chance.random() * chance.choice([1e-6, 1e-3, 1, 100]), chance.choice([1, 6, 8]))
        words = [chance.choice(pair) for pair in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum"))]
        schema = num(**dict(zip(words, (low, high), strict=True)))
        try:
            answer = drawn(constrainer, schema, 1)
        except InputError:
            refused += 1
            continue
        assert answer is not None
        assert jsonschema_rs.is_valid(schema, json.loads(answer)), (schema, answer)
    assert 0 < refused < 75


@pytest.mark.parametrize(("schema", "word", "place"), REFUSED)
def test_what_is_not_held_to_is_refused_by_name(
    schema: dict[str, Any], word: str, place: str, constrainer: Constrainer
) -> None:
    with pytest.raises(InputError) as caught:
        constrainer.constraint(JsonFormat(schema))
    assert f"cannot be enforced: '{word}' at {place} " in caught.value.what
    assert caught.value.where == "response_format"
    assert caught.value.fix


def pattern_of(chance: random.Random, depth: int) -> str:
    kind = chance.random() if depth else 0
    if kind < 0.25:
        return chance.choice(["a", "b", "[cd]", r"\d", "x"])
    first, second = pattern_of(chance, depth - 1), pattern_of(chance, depth - 1)
    if kind < 0.55:
        return first + second
    if kind < 0.7:
        return f"(?:{first}|{second if chance.random() < 0.85 else ''})"
    return f"(?:{first}){chance.choice(['?', '*', '+', '{2}', '{1,3}', '{0,2}', '{2,}', '*?'])}"


def test_texts_of_random_patterns_fit(constrainer: Constrainer) -> None:
    chance = random.Random(5)
    patterns = [r"^a(?:x\d+)?b$", r"^(?:\d(?:a)*)?$", "^(?:b|(?:[cd]{2}|b{1,3}))$"]
    patterns += [f"^{pattern_of(chance, 4)}$" for _ in range(150)]
    for pattern in patterns:
        for seed in range(5):
            answer = drawn(constrainer, text(pattern=pattern), seed)
            assert answer is None or re.search(pattern, json.loads(answer)), (pattern, answer)


def test_characters_let_through_are_json_and_fit(constrainer: Constrainer) -> None:
    sets = ["[^，]", "[^é]", "[ -ÿ]", "(é|.)", r"(é|\W)", r"[é\W]", r"[^\W\d_]?[-;]"]
    sets += [r"\S", r"[^\s]", r"[^\s，]", r"[-\S ]", r"[\s\S]", "."]
    for asked in (text(pattern=f"^{one}$") for one in sets):
        fitting = jsonschema_rs.Draft202012Validator(asked)
        single = [piece for piece in PIECES if len(piece) == 1]
        passed = [piece for piece in single if lets_through(constrainer, asked, f'"{piece}"')]
        assert {"-", ";"} <= set(passed), asked
        for piece in passed:
            assert fitting.is_valid(json.loads(f'"{piece}"')), (asked, piece)
    assert not lets_through(constrainer, text(pattern="^.$"), '"\u2028"')


def test_hosts_have_short_labels_and_names(constrainer: Constrainer) -> None:
    fitting = jsonschema_rs.Draft202012Validator({"format": "hostname"}, validate_formats=True)
    for host in ("a", "a" * 30, "www.example.co.uk", "ip-10-0-0-1.a-b.c3", "a" * 30 + 5 * f".{'b' * 30}"):
        assert lets_through(constrainer, text(format="hostname"), f'"{host}"'), host
        assert fitting.is_valid(host)
    long = [".".join(["a" * 50] * 6), ".".join(["a" * 61] * 5), ".".join("a" * 150)]
    for host in ["", "a" * 64, "a." + "b" * 64, "-a", "a-", "a..b", "a.", "ab--c", "xn--a", "a.xn--b", "a_b", *long]:
        assert not lets_through(constrainer, text(format="hostname"), f'"{host}"'), host
    for host in ("ab--c.de", "xn--a.de"):
        assert not lets_through(constrainer, text(format="email"), f'"a@{host}"'), host


def test_dates_are_the_calendars() -> None:
    fitting = re.compile(str(enforceable(text(format="date"))["pattern"]))
    for year in (1, 4, 96, 100, 400, 1900, 2000, 2023, 2024, 2100, 9996):
        for month in range(14):
            for day in range(33):
                try:
                    real = bool(date(year, month, day))
                except ValueError:
                    real = False
                said = f"{year:04}-{month:02}-{day:02}"
                assert bool(fitting.match(said)) == real, said
    assert not fitting.match("0000-02-29")


def test_what_another_type_would_ask_is_no_matter() -> None:
    enforceable(text(multipleOf=0.1, contains=INT, required=["a"]))
    enforceable({"type": "null", "$defs": {"unused": {"not": {}}}})
    enforceable({"const": {"not": 1, "$ref": "http://a"}})
    enforceable(arr(items=INT, uniqueItems=False))


def test_reasons_of_the_library_come_without_its_source(constrainer: Constrainer) -> None:
    for schema in (num("integer", minimum=1.5), text(minLength=5, maxLength=4), {"const": "\ud800" * 2000}):
        with pytest.raises(InputError) as caught:
            constrainer.constraint(JsonFormat(schema))
        assert "cannot be enforced" in caught.value.what
        assert ".cc:" not in caught.value.what
        assert len(caught.value.what) < 400


def test_depth_and_breadth_are_no_matter(constrainer: Constrainer) -> None:
    deep: dict[str, Any] = {"multipleOf": 2}
    for _ in range(20_000):
        deep = arr(items=deep)
    with pytest.raises(InputError, match="'multipleOf' at #/items/items/"):
        enforceable(deep)
    with pytest.raises(InputError, match="too deeply"):
        constrainer.constraint(JsonFormat(deep))
    doubled: dict[str, Any] = {f"a{n}": {"anyOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(40)}
    start = time.monotonic()
    with pytest.raises(InputError, match="too many branches"):
        enforceable({"oneOf": [{"$ref": "#/$defs/a0"}, TEXT], "$defs": doubled | {"a40": INT}})
    wide = {"anyOf": [{"const": number} for number in range(100)]}
    many = {"anyOf": [{"oneOf": [{"$ref": "#/$defs/w"}, {"anyOf": [TEXT] * 100}]} for _ in range(800)]}
    with pytest.raises(InputError, match="too many branches"):
        enforceable(many | {"$defs": {"w": wide}})
    assert time.monotonic() - start < 2
