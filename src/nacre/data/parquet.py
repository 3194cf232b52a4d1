"""Rows out of a Parquet file, a few at a time."""

import base64
import math
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from pyarrow import ArrowException
from pyarrow.parquet import ParquetFile

from nacre.base.errors import InputError

_ROWS_AT_ONCE = 256
_DAMAGED = "write or copy it again"


def parquet_rows(path: Path, note: Callable[[str], None]) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Each row with its number from 1; None in the place of a row whose texts are not valid UTF-8.

    What JSON has no type for is converted, and said through `note`: a NaN (a missing value) to null, times to ISO
    8601, decimals to text, bytes to text where they are UTF-8 and to base64 where not.

    Raises:
        InputError: the file is damaged.
    """
    said: dict[str, None] = {}
    number = 0
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
                for row in _values(batch):
                    number += 1
                    yield number, None if row is None else _json(row, said)
    except (ArrowException, OSError) as error:
        reason = str(error).splitlines()[0][:160]
        after = f" after row {number}" if number else ""
        raise InputError(f"the Parquet file cannot be read{after}: {reason}", where=str(path), fix=_DAMAGED) from None
    for sentence in said:
        note(f"{path}: {sentence}")


def _values(batch: Any) -> Iterator[dict[str, Any] | None]:
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for place in range(batch.num_rows):
            try:
                yield batch.slice(place, 1).to_pylist()[0]
            except UnicodeDecodeError:
                yield None


def _json(value: Any, said: dict[str, None]) -> Any:
    """The value as JSON could hold it."""
    match value:
        case dict():
            return {str(key): _json(item, said) for key, item in value.items()}
        case list() | tuple():
            return [_json(item, said) for item in value]
        case float() if not math.isfinite(value):
            said["NaN and infinite numbers are read as null"] = None
            return None
        case bytes():
            return _text(value, said)
        case datetime() | date() | time():
            said["times are read as text"] = None
            return value.isoformat()
        case timedelta():
            said["durations are read as seconds"] = None
            return value.total_seconds()
        case Decimal():
            said["decimal numbers are read as text"] = None
            return str(value)
    return value


def _text(value: bytes, said: dict[str, None]) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        said["bytes that are no text are read as base64"] = None
        return base64.b64encode(value).decode()
    said["bytes are read as the UTF-8 text they hold"] = None
    return text
