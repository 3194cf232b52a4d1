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
        "label-studio": "nacre.data.formats.label_studio:LabelStudio",
        "messages": "nacre.data.formats.messages:Messages",
        "preference": "nacre.data.formats.preference:Preference",
        "prompt": "nacre.data.formats.prompt:Prompt",
        "text": "nacre.data.formats.text:Text",
    },
)
