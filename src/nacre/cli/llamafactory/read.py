"""Flags, `key=value` words and YAML or JSON files, in one dict."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from nacre.base.config import read_yaml
from nacre.base.errors import InputError
from nacre.cli.llamafactory.arguments import ALIASES, SWITCHES, Arguments
from nacre.cli.llamafactory.keys import KEYS

FILES = (".yaml", ".yml", ".json")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}


def read_arguments(given: Sequence[str]) -> dict[str, Any]:
    """Flags (``--key value``, ``--key=value``, ``--switch``), ``key=value`` words and YAML or JSON files, in one dict.

    Later ones win. Values are typed as in YAML, wherever they stand.

    Raises:
        InputError: a flag without its value, an unreadable file, or a word that is none of these.
    """
    found: dict[str, Any] = {}
    words = list(given)
    while words:
        word = words.pop(0)
        name, equals, value = word.lstrip("-").partition("=")
        key = ALIASES.get(name.replace("-", "_"), name.replace("-", "_"))
        if word.startswith("--") and not equals:
            if words and not words[0].startswith("--") and not _stands_alone(key, words[0]):
                found[key] = typed(words.pop(0))
            elif key in SWITCHES or key not in Arguments.model_fields:
                found[key] = True
            else:
                raise InputError(f"--{name} needs a value", where=f"--{name}", fix=f"write --{name} VALUE")
        elif equals:
            found[key] = typed(value)
        elif Path(word).suffix in FILES:
            found |= _read_file(Path(word))
        else:
            raise InputError(
                f"'{word}' is neither a flag nor a settings file",
                where="command line",
                fix="write --flag value, key=value, or a .yaml or .json file",
            )
    return found


def typed(text: str) -> Any:
    """What YAML takes a word for: null, true, false, a number (1e-4 too), a list, a mapping, or text."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _NUMBER.fullmatch(text):
        return float(text) if re.search(r"[.e]", text, re.IGNORECASE) else int(text)
    if text[:1] in "[{":
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            return text
    return text


def _stands_alone(key: str, follows: str) -> bool:
    """Whether `--key` is a switch that takes nothing of what follows it."""
    switch = key in SWITCHES or (key in KEYS and not _NUMBER.fullmatch(follows) and Path(follows).suffix in FILES)
    return switch and follows.lower() not in ("true", "false")


def _read_file(path: Path) -> dict[str, Any]:
    data = _read_json(path) if path.suffix == ".json" else read_yaml(path)[0]
    # YAML 1.1 reads 1e-4 as text, and so do many people's files
    return {ALIASES.get(key, key): typed(value) if _is_number(value) else value for key, value in data.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, str) and bool(_NUMBER.fullmatch(value))


def _read_json(path: Path) -> dict[str, Any]:
    """JSON is nearly YAML, but not where it is indented with tabs."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("the file does not exist", where=str(path), fix="check the path") from None
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8: byte {error.start}", where=str(path), fix="save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"{path}, line {error.lineno}"
        raise InputError(f"not valid JSON: {error.msg}", where=where, fix="correct that line") from None
    if not isinstance(data, dict):
        raise InputError("the file must hold one JSON object", where=str(path), fix='write {"key": value, …}')
    return data
