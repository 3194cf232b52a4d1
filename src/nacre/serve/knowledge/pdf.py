"""The text of PDF files, page by page."""

import logging
from collections.abc import Iterator
from pathlib import Path

from pypdf import PdfReader
from pypdf.errors import PyPdfError

from nacre.base.errors import NacreError

_MISTAKES = (PyPdfError, OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError)


def pages(path: Path) -> Iterator[str]:
    """The text of each page, first to last.

    Raises:
        NacreError: the file is damaged or asks for a password.
    """
    logging.getLogger("pypdf").setLevel(logging.ERROR)  # what it mends without being asked
    try:
        reader = PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise NacreError("it asks for a password", where=str(path))
        for page in reader.pages:
            yield page.extract_text()
    except _MISTAKES as error:  # what a damaged file does to its parser cannot be foreseen
        raise NacreError(f"it is no PDF that can be read: {error}", where=str(path)) from None
