"""What holds where a request says nothing: the settings', else the version's own ``generation_config.json``."""

import json
import logging
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nacre.records import Weights
from nacre.serve.settings import GenerationDefaults

_log = logging.getLogger("nacre.serve")

_THEIR_NAMES = {"max_tokens": "max_new_tokens"}


@lru_cache(maxsize=64)
def defaults_of(weights: Weights, chosen: GenerationDefaults) -> GenerationDefaults:
    """The version's defaults under those that the operator chose; read once a version."""
    own = _read(weights.folder, weights.model)
    return own.model_copy(update=chosen.model_dump(exclude_none=True))


@lru_cache(maxsize=64)
def _read(*folders: str) -> GenerationDefaults:
    """The first ``generation_config.json`` there is; a value that is out of range is told in the log and left out."""
    for folder in folders:
        path = Path(folder) / "generation_config.json"
        try:
            given = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            _log.warning("%s is not read: %s", path, error)
            return GenerationDefaults()
        return _usable(given if isinstance(given, dict) else {}, path)
    return GenerationDefaults()


def _usable(given: dict[str, Any], path: Path) -> GenerationDefaults:
    found: dict[str, Any] = {}
    for name in GenerationDefaults.model_fields:
        value = given.get(_THEIR_NAMES.get(name, name))
        try:
            found |= GenerationDefaults.model_validate({name: value}).model_dump(exclude_none=True)
        except ValidationError:
            _log.warning("%s: %s %r is out of range and left out", path, name, value)
    return GenerationDefaults(**found)
