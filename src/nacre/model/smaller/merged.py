"""An adapter merged into its base: as large as the base, and no slower than it."""

from pathlib import Path
from typing import Any

from nacre.model.smaller.base import Rows, Way
from nacre.records import Compressing


class Merged(Way):
    """Write the model as it was loaded, which is whole by then."""

    name = "merged"

    def write(self, model: Any, folder: Path, asked: Compressing, rows: Rows) -> list[str]:
        """See `Way.write`."""
        model.save_pretrained(str(folder))
        return []
