"""LlamaFactory's `dataset_info.json`, with its meaning: https://github.com/hiyouga/LlamaFactory/tree/main/data."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from nacre.base.config import Settings, parse
from nacre.base.errors import InputError
from nacre.data.chunks import Chunking
from nacre.data.encoding import BAD_BYTES, open_bytes, sniff
from nacre.data.formats import formats
from nacre.data.formats.layout import SHAREGPT_TAGS, Columns, Format, Formatting, Layout, Tags
from nacre.data.strict import Malformed, loads
from nacre.records import Example, Message

DATASET_INFO = "dataset_info.json"

T = TypeVar("T")

_DEFAULT_COLUMNS = Columns(prompt="instruction", query="input", response="output", messages="conversations")
_REMOTE = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")


class Entry(Settings):
    """One dataset as `dataset_info.json` describes it.

    Where `columns` (or `tags`) is given, what it does not name is absent: the defaults hold only where
    the whole key is left out. `file_sha1`, `subset` and `folder` say nothing about local files. `chunk` is nacre's
    own: how long plain texts are cut; without it they are not.
    """

    file_name: str | None = None
    hf_hub_url: str | None = None
    ms_hub_url: str | None = None
    om_hub_url: str | None = None
    script_url: str | None = None
    cloud_file_name: str | None = None
    file_sha1: str | None = None
    subset: str | None = None
    split: str = "train"
    folder: str | None = None
    num_samples: int | None = Field(None, ge=1)
    formatting: Formatting = "alpaca"
    ranking: bool = False
    columns: Columns | None = None
    tags: Tags | None = None
    chunk: Chunking | None = None

    @property
    def layout(self) -> Layout:
        """Columns and tags with the defaults filled in."""
        columns = _DEFAULT_COLUMNS if self.columns is None else self.columns
        return Layout(self.formatting, columns, SHAREGPT_TAGS if self.tags is None else self.tags)

    @property
    def format_name(self) -> str:
        """Which format reads the rows. An alpaca dataset that names no response is plain text."""
        columns = self.layout.columns
        if columns.kto_tag:
            return "kto"
        if self.ranking:
            return "preference"
        if self.formatting != "alpaca":
            return "messages"
        return "alpaca" if columns.response else "text"

    def reader(self) -> Format:
        """The format that reads this dataset's rows."""
        made: Format = formats.load(self.format_name)(self.layout)
        return made

    def local(self, dataset_dir: Path, name: str) -> Path:
        """The file or folder that holds the rows.

        Raises:
            InputError: the entry points to a hub, a script or the cloud, or to nothing that exists, or
                says of a local file what cannot be.
        """
        where = f"{dataset_dir / DATASET_INFO}, key {name}"
        for key in _REMOTE:
            url = getattr(self, key)
            if url is not None:
                fix = f'download it, then write "file_name" with its path below {dataset_dir} in place of "{key}"'
                raise InputError(
                    f"dataset '{name}' lies at {key} '{url}', and nothing is downloaded", where=where, fix=fix
                )
        if self.file_name is None:
            raise InputError(f"dataset '{name}' names no file", where=where, fix='add "file_name": "…"')
        if self.split != "train":
            fix = 'delete "split", or split the file and name the part you want'
            raise InputError(
                f"split '{self.split}' of dataset '{name}': a local file has only train", where=where, fix=fix
            )
        if self.ranking and not (self.layout.columns.chosen and self.layout.columns.rejected):
            fix = 'name "chosen" and "rejected" in its columns'
            raise InputError(f"dataset '{name}' has ranking, but no columns for the two answers", where=where, fix=fix)
        path = dataset_dir / self.file_name
        if not path.exists():
            raise InputError(
                f"the file of dataset '{name}' does not exist: {path}", where=where, fix="correct file_name"
            )
        return path


def read_info(dataset_dir: Path) -> dict[str, Any]:
    """Names and descriptions in a folder's `dataset_info.json`; empty where there is no such file.

    Raises:
        InputError: the file is no JSON object.
    """
    path = dataset_dir / DATASET_INFO
    if not path.is_file():
        return {}
    codec = sniff(path).codec
    with open_bytes(path) as file:
        text = file.read().decode(codec, BAD_BYTES)
    try:
        info = loads(text)
    except Malformed as problem:
        raise InputError(f"not valid JSON: {problem.reason}", where=str(path), fix=problem.remedy) from None
    if not isinstance(info, dict):
        raise InputError("not an object of datasets", where=str(path), fix='write {"NAME": {"file_name": "…"}}')
    return info


def entry(info: Mapping[str, Any], name: str, dataset_dir: Path) -> Entry:
    """The description of one dataset.

    Raises:
        InputError: a key is unknown (with the nearest known one) or a value is wrong.
    """
    where = f"{dataset_dir / DATASET_INFO}, dataset {name}"
    if not isinstance(info[name], dict):
        raise InputError(f"the description of '{name}' is no object", where=where, fix='write {"file_name": "…"}')
    return parse(Entry, info[name], where=where)


def resample(rows: list[T], count: int, seed: int = 0) -> list[T]:
    """`num_samples`: so many rows, every row at least once where there are not enough."""
    draw = random.Random(seed)
    chosen = draw.sample(rows, min(count, len(rows)))
    return chosen + draw.choices(rows, k=count - len(chosen)) if rows else []


def aligned(example: Example) -> dict[str, Any]:
    """The row that LlamaFactory's converters make of the same data, for comparison with it."""
    answers = [_turn(message) for message in example.answers]
    if example.kind == "kto":
        nothing = {"role": "assistant", "content": ""}
        answers = [*answers, nothing] if example.desirable else [nothing, *answers]
    media = {f"_{name}": getattr(example, name) for name in ("images", "videos", "audios")}
    return {
        "_prompt": [_turn(message) for message in example.prompt],
        "_response": answers,
        "_system": example.system,
        "_tools": example.tools,
        **{name: None if paths is None else list(paths) for name, paths in media.items()},
    }


def _turn(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}
