"""What the API answers, as models: the served OpenAPI document is made of them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Reply(BaseModel):
    """Base of what is answered."""

    model_config = ConfigDict(extra="forbid")


class ErrorDetail(Reply):
    """What went wrong; `param` names the part of the request, `code` is OpenAI's short name for the reason."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(Reply):
    """Every answer that is an error."""

    error: ErrorDetail


class PromptDetails(Reply):
    """`cached_tokens` had been read before, for another request."""

    cached_tokens: int


class UsageReply(Reply):
    """Tokens of a request; a prompt counts once however many answers it got."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class LikelyToken(Reply):
    """A token with its log probability in nats and its bytes."""

    token: str
    logprob: float
    bytes: list[int]


class ChatToken(LikelyToken):
    """A token of the answer, with the likeliest at its place."""

    top_logprobs: list[LikelyToken]


class ChatLogprobs(Reply):
    """Log probabilities of an answer's tokens."""

    content: list[ChatToken]
    refusal: None


class ChatMessageReply(Reply):
    """The answer."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[dict[str, Any]] | None = None
    reasoning_content: str | None = None


class ChatChoice(Reply):
    """One answer."""

    index: int
    message: ChatMessageReply
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"]


class Citation(Reply):
    """A passage of a document, by its number in the answer; `place`: lines or page."""

    id: int
    source: str
    chunk: str
    place: str | None = None
    relevance: float
    similarity: float | None = None


class Sources(Reply):
    """What an answer was given of the documents; see `nacre knowledge`."""

    knowledge: Literal["found", "nothing", "off", "failed", "late", "refused"]
    snapshot: int | None
    citations: list[Citation]


class ChatReply(Reply):
    """``/v1/chat/completions``."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: UsageReply
    nacre: Sources | None = None


class TextLogprobs(Reply):
    """Log probabilities of the tokens of a text, as lists of one length."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class TextChoice(Reply):
    """One text."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length", "content_filter"]


class TextReply(Reply):
    """``/v1/completions``."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: UsageReply


class EmbeddingReply(Reply):
    """One vector, as numbers or as base64 of little-endian float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(Reply):
    """Tokens of all inputs."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsReply(Reply):
    """``/v1/embeddings``."""

    object: Literal["list"]
    data: list[EmbeddingReply]
    model: str
    usage: EmbeddingUsage


class ModelReply(Reply):
    """A name that is answered; asked for alone, with its version and what holds where a request says nothing."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    version: str | None = None
    defaults: dict[str, float] | None = None


class ModelsReply(Reply):
    """``/v1/models``."""

    object: Literal["list"]
    data: list[ModelReply]


class FeedbackReply(Reply):
    """``/v1/feedback``: the numbers of the opinions in the ledger."""

    object: Literal["feedback"]
    response_id: str
    ids: list[int]
