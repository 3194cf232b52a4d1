"""Pictures as bytes: whether they are any, and what is seen of them. Pillow comes with the extra `images`."""

import io
import re
import struct
import warnings
from pathlib import PurePath
from typing import Any

from nacre.base.errors import InputError
from nacre.base.plugins import Table

PILLOW = Table("picture library", {"image": "PIL.ImageOps:Image", "turned": "PIL.ImageOps:exif_transpose"})
_SHA256 = re.compile(r"[0-9a-f]{64}")


def picture_name(path: str) -> str:
    """The hash that a kept picture is named by, wherever it lies; any other path as it is."""
    name = PurePath(path).name
    return name if is_hash(name) else path


def is_hash(name: str) -> bool:
    """Whether this is a SHA-256 in hexadecimal digits."""
    return _SHA256.fullmatch(name) is not None


def open_picture(data: bytes) -> Any:
    """The picture in these bytes as Pillow's, RGB, turned the way its camera was held; of several frames the first.

    Raises:
        ValueError: they are no whole picture that Pillow can read, or one too large to be meant; says which.
        InputError: Pillow is not installed.
    """
    image, turned = _pillow()
    refused = (OSError, SyntaxError, ValueError, EOFError, struct.error)
    bombs = (image.DecompressionBombError, image.DecompressionBombWarning)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", image.DecompressionBombWarning)
            with image.open(io.BytesIO(data)) as found:
                return turned(found).convert("RGB")
    except image.UnidentifiedImageError:
        raise ValueError("it is no picture of a known kind") from None
    except bombs:
        raise ValueError(f"it has more than {image.MAX_IMAGE_PIXELS:,} pixels") from None
    except refused as error:
        raise ValueError(f"it is damaged: {error}") from None


def _pillow() -> tuple[Any, Any]:
    try:
        return PILLOW.load("image"), PILLOW.load("turned")
    except ImportError:
        fix = "pip install 'nacre[images]'"
        raise InputError("rows with pictures need Pillow, which is not installed", where="images", fix=fix) from None
