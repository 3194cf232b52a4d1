"""Formats: how one row of a file becomes an Example. A row's format is told by what is in it.

A format is a class in its own file with ``looks_like(record)``, true for its own rows and for no other
format's, and ``read(record) -> Example``; its constructor takes the `Layout` that ``dataset_info.json``
describes, or None to follow the row. Third parties join through the entry-point group ``nacre.format``.
"""

from nacre.base.plugins import Table

formats = Table(
    "format",
    {
        "alpaca": "nacre.data.formats.alpaca:Alpaca",
        "kto": "nacre.data.formats.kto:Kto",
        "messages": "nacre.data.formats.messages:Messages",
        "preference": "nacre.data.formats.preference:Preference",
        "text": "nacre.data.formats.text:Text",
    },
)
