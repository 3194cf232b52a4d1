"""The `evaluate.judge` part of `nacre.yaml`: a language model that gives opinions on answers."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from nacre.base.config import Settings
from nacre.base.hashing import content_hash

READING = 2  # how verdicts are read from replies; another reading is another verdict


def _holding(*needed: str) -> AfterValidator:
    def check(text: str) -> str:
        missing = [name for name in needed if f"{{{name}}}" not in text]
        if missing:
            raise ValueError(f"the prompt must hold {{{missing[0]}}}")
        return text

    return AfterValidator(check)


class Judge(Settings):
    """A model behind an OpenAI-compatible server that scores answers.

    `prompt` and `pairwise_prompt` are texts with places in braces: {question}, {reference}, and {answer} or {first}
    and {second}. The reply must end in a line `Score: N` (`评分：N`), N from 0 to 10, or `Verdict: A`, `B` or `tie`
    (`结论：A`, `B` or `平`).
    """

    url: str = Field(description="of the API, e.g. http://localhost:8000/v1")
    model: str = Field(description="the name that the server knows it by")
    key_env: str | None = Field(None, description="name of the environment variable that holds the API key")
    language: Literal["auto", "en", "zh"] = Field(
        "auto", description="of the prompt; auto: zh where the task's references are mostly Chinese"
    )
    prompt: Annotated[str, _holding("question", "answer")] | None = Field(
        None, description="instead of the built-in one, with {question}, {answer} and, if wanted, {reference}"
    )
    pairwise_prompt: Annotated[str, _holding("question", "first", "second")] | None = Field(
        None, description="the same to compare two, with {question}, {first}, {second} and, if wanted, {reference}"
    )
    max_tokens: int = Field(512, ge=1, description="of the judge's reply")
    timeout_s: float = Field(60, gt=0, description="seconds until a request counts as failed")
    retries: int = Field(4, ge=0, description="how often a request is sent again that failed or could not be read")
    parallel: int = Field(4, ge=1, description="requests at the same time")

    @property
    def digest(self) -> str:
        """Hash of what a verdict depends on: not of how patiently the server is asked."""
        asked = self.model_dump(exclude={"key_env", "timeout_s", "retries", "parallel"})
        return content_hash([READING, asked])
