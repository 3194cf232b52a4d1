"""The `knowledge` part of `nacre.yaml`."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from nacre.base.config import Settings

Share = Annotated[float, Field(ge=0, le=1)]


class Knowledge(Settings):
    """The store of documents beside the model. It is in use once `nacre knowledge add` gave it documents."""

    serve: bool = Field(True, description="chat answers are given passages; false: the store is only searched by hand")
    model: str | None = Field(
        None,
        description="folder of an embedding model (transformers or model2vec); default: none, words alone are compared",
    )
    url: str | None = Field(
        None, description="where LanceDB keeps the chunks, e.g. s3://bucket/path; default: .nacre/knowledge"
    )
    size: int = Field(512, ge=32, description="tokens of a chunk at most; without an embedding model characters")
    overlap: int = Field(32, ge=0, description="of them shared with the chunk before")
    passages: int = Field(4, ge=1, le=32, description="passages that an answer is given at most")
    per_document: int = Field(2, ge=1, description="of them from one document, so that none crowds out the others")
    relevance: Share = Field(
        0.5, description="share of the question's words, the rare ones counting more, that a passage must have"
    )
    similarity: Share = Field(0.6, description="or how like the question it must be: cosine of the embeddings")
    target: Share = Field(0.95, description="share of people's questions for which there should be a passage")
    max_drop: Share = Field(
        0.02,
        description="how much of that share a refresh or an add may lose; beyond it the snapshot before stays in use",
    )
    timeout_s: float = Field(2.0, gt=0, description="seconds a search may take; after them the model answers without")
    keep: int = Field(
        3, ge=2, description="snapshots that are kept, the present one included; what the last champions had stays too"
    )
    max_file_mb: int = Field(50, ge=1, description="larger files are left out and named")

    @model_validator(mode="after")
    def _overlap_is_a_part(self) -> Self:
        if self.overlap > self.size // 2:
            raise ValueError(f"overlap {self.overlap} is more than half of size {self.size}")
        return self
