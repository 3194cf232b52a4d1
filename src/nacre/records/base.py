"""The base of every record."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from nacre.base.hashing import canonical_json, sha256_text


class Record(BaseModel):
    """A frozen value that is written to disk. `schema_version` rises when a field changes its meaning."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = 1

    def to_json(self) -> str:
        """Canonical JSON: equal records give equal text."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The inverse of `to_json`."""
        return cls.model_validate_json(text)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON."""
        return sha256_text(self.to_json())

    def changed(self, **fields: Any) -> Self:
        """A validated copy with some fields replaced."""
        return type(self).model_validate(self.model_dump() | fields)
