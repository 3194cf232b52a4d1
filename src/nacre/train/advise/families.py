"""Open model families: a JSON table in the package, which a user's own tables add to."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from nacre.base.config import Settings, parse
from nacre.base.errors import InputError
from nacre.records import Weights
from nacre.train.shape import Dimensions, dimensions_of

Use = Literal["general", "code", "domain", "reasoning", "device"]
OWN = "families.json"  # beside nacre.yaml


class Model(Settings):
    """One size of a family."""

    hub: str = Field(min_length=1, description="its name on the hub, or a folder")
    config: Dimensions = Field(description="sizes, by transformers' names")
    licence: str | None = Field(None, description="where it is not the family's")
    uses: tuple[Use, ...] | None = Field(None, min_length=1, description="where they are not the family's")
    remote_code: bool = Field(False, description="it runs only with code out of its own folder, which is refused here")


class Family(Settings):
    """Models that differ in size."""

    name: str = Field(min_length=1, description="of the family")
    maker: str = Field("", description="who made it")
    licence: str = Field("unknown", description="what may be done with it")
    languages: tuple[str, ...] = Field(("en",), min_length=1, description="it is strong in, by two letters")
    multilingual: bool = Field(False, description="whether it knows many more languages")
    uses: tuple[Use, ...] = Field(("general",), min_length=1, description="what it suits")
    models: tuple[Model, ...] = Field(min_length=1, description="its sizes")


class Table(Settings):
    """What a file holds."""

    families: tuple[Family, ...] = Field(description="one entry for each family")


@dataclass(frozen=True)
class Base:
    """A model that a training may start from.

    Attributes:
        name: what `nacre.yaml` is to call it.
        start: its sizes, or the folder where they are read from.
    """

    name: str
    family: str
    licence: str
    languages: tuple[str, ...]
    multilingual: bool
    uses: tuple[str, ...]
    start: Dimensions | Weights
    sizes: Dimensions
    remote_code: bool = False


def known(own: Iterable[Path] = ()) -> list[Base]:
    """All models of the package's table and of `own` ones; a later table's entry takes the place of an earlier one's.

    Raises:
        InputError: a table cannot be read, or has an entry that is wrong; names line and key.
    """
    tables = [json.loads(files("nacre.train.advise").joinpath(OWN).read_text(encoding="utf-8"))]
    found = {one.name: one for one in _bases(Table.model_validate(tables[0]))}
    for path in own:
        found |= {one.name: one for one in _bases(_read(path))}
    return list(found.values())


def base_at(folder: Path) -> Base:
    """A model that is here.

    Raises:
        InputError: there is none, or one that is no decoder.
    """
    start = Weights(identity=str(folder), model=str(folder))
    sizes = dimensions_of(start)
    return Base(str(folder), "", "", (), True, ("general",), start, sizes)


def _bases(table: Table) -> Iterable[Base]:
    for family in table.families:
        for model in family.models:
            yield Base(
                name=model.hub,
                family=family.name,
                licence=model.licence or family.licence,
                languages=family.languages,
                multilingual=family.multilingual,
                uses=model.uses or family.uses,
                start=model.config,
                sizes=model.config,
                remote_code=model.remote_code,
            )


def _read(path: Path) -> Table:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError("there is no such table of families", where=str(path), fix="check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        fix = "name a JSON file in UTF-8"
        raise InputError(f"the table of families cannot be read: {error}", where=str(path), fix=fix) from None
    try:
        data: Any = json.loads(text)
    except json.JSONDecodeError as error:
        where = f"{path}, line {error.lineno}"
        raise InputError(f"not valid JSON: {error.msg}", where=where, fix="correct that line") from None
    if not isinstance(data, dict):
        fix = 'write {"families": [ … ]}, see docs/advise.md'
        raise InputError("the table of families is no mapping", where=str(path), fix=fix)
    return parse(Table, data, where=str(path), text=text.replace("\t", " "))
