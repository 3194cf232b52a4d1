"""How opinions become rows: whom to believe, and what of it."""

from pydantic import Field

from nacre.base.config import Settings


class Trust(Settings):
    """When an opinion counts. What does not count waits in quarantine, with the reason, until a person decides."""

    operator: bool = Field(
        True,
        description="what names no user and came without a key (so from this machine), or with one of serve.api_keys, "
        "is the operator's word and counts at once; false where an app or a proxy stands in between",
    )
    trusted: tuple[str, ...] = Field(
        (), description="ids of keys (nacre keys list), and hashes of persons, whose word counts at once"
    )
    people: int = Field(2, ge=1, description="independent people who must say the same of one prompt")
    keys: int = Field(1, ge=1, description="through how many different keys they must have said it")
    agree: float = Field(
        0.66, gt=0.5, le=1, description="share of those who say what the answer to a prompt is that must agree"
    )
    near: float = Field(
        0.9, ge=0.5, le=1, description="Jaccard coefficient from which two prompts, or two answers, are the same"
    )
    person_rows: int = Field(50, ge=1, description="prompts on which one person is heard, in one increment")
    person_share: float = Field(0.05, gt=0, le=1, description="and as a share of all its prompts, beyond ten")
    key_rows: int = Field(5000, ge=1, description="prompts on which one key is heard, in one increment")
    key_share: float = Field(0.5, gt=0, le=1, description="and as a share, beyond ten, where several keys speak")
    burst: int = Field(20, ge=1, description="opinions of one person that are heard in burst_minutes; more all wait")
    burst_minutes: float = Field(10, gt=0, description="minutes that burst is counted in")
    copied: int = Field(3, ge=2, description="people who send one long text in copied_minutes count as one person")
    copied_minutes: float = Field(
        60, gt=0, description="minutes that copies, and people who say the same of one prompt after another, lie within"
    )


class Learning(Settings):
    """What is made of feedback."""

    trust: Trust = Trust()
    judged_margin: float = Field(
        0.25, gt=0, le=1, description="by how much a judge must prefer one answer of a shadow pair to make it a row"
    )
