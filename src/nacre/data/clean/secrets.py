"""Keys, tokens and passwords: what would open something if a model repeated it.

Known shapes first (OpenAI, Anthropic, AWS, Alibaba and Tencent Cloud, GitHub, GitLab, Slack, Google, Stripe, Hugging
Face, npm, PyPI, JWT, bearer tokens, private keys), then values that are assigned to a telling name (``api_key = …``)
and look random: at least 16 characters (8 of a password) with letters and figures, and 3 bits of entropy a character.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from nacre.base.config import Settings
from nacre.data.clean.base import Cleaner
from nacre.data.clean.marks import any_of

_B = r"(?<![A-Za-z0-9])"
_KEY = r"(?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?"
_SHAPES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    (
        "private key",
        ("-----BEGIN",),
        rf"-----BEGIN {_KEY}-----.*?(?:-----END {_KEY}-----|\Z)",
    ),
    ("AWS key id", ("AKIA", "ASIA"), _B + r"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    ("Alibaba Cloud key id", ("LTAI",), _B + r"LTAI[A-Za-z0-9]{12,26}(?![A-Za-z0-9])"),
    ("Tencent Cloud key id", ("AKID",), _B + r"AKID[A-Za-z0-9]{32}(?![A-Za-z0-9])"),
    ("bearer token", ("Bearer ",), r"(?<=Bearer )(?=[^\s]*[0-9])[A-Za-z0-9_\-.=+/]{20,}"),
    (
        "GitHub token",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        _B + r"(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255})",
    ),
    ("GitLab token", ("glpat-",), _B + r"glpat-[A-Za-z0-9_\-]{20,}"),
    (
        "API key",
        ("sk-", "sk_", "rk_"),
        _B + r"(?:sk-(?:[a-z]+-)*[A-Za-z0-9_\-]{20,}|[sr]k_(?:live|test)_[A-Za-z0-9]{16,})",
    ),
    ("Slack token", ("xox",), _B + r"xox[abeoprs]-[A-Za-z0-9\-]{10,}"),
    ("Slack webhook", ("hooks.slack.com",), r"https://hooks\.slack\.com/services/[A-Za-z0-9/]{20,}"),
    ("Google key", ("AIza",), _B + r"AIza[A-Za-z0-9_\-]{35}"),
    ("Hugging Face token", ("hf_",), _B + r"hf_[A-Za-z0-9]{30,}"),
    ("npm token", ("npm_",), _B + r"npm_[A-Za-z0-9]{36}"),
    ("PyPI token", ("pypi-",), _B + r"pypi-[A-Za-z0-9_\-]{50,}"),
    ("JSON web token", ("eyJ",), _B + r"eyJ[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}"),
    ("password in a URL", ("://",), r"(?<=://)[^\s/:@]{1,64}:[^\s/:@\[\]]{3,128}(?=@)"),
)
_COMPILED = tuple((kind, marks, re.compile(pattern, re.DOTALL)) for kind, marks, pattern in _SHAPES)
_NAMES = (
    r"(api[_\- ]?key|access[_\-]?key([_\-]?id)?|secret([_\-]?(access[_\-]?)?key)?|token|password|passwd"
    r"|private[_\-]?key|密码|密钥|口令)"
)
_ASSIGNED = re.compile(
    rf"(?i)(?P<name>{_NAMES})(?P<between>[\"'`]?\s*(?::=|=>|[=:：]|是|\bis\b)\s*[\"'`]?)(?P<value>[A-Za-z0-9+/_\-.=!@#$%^&*]{{8,256}})"
)
_ASSIGNED_MARK = rf"(?i){_NAMES}[\"'`]?[\s\x80-\xff]*(:|=|：|是|is)[=>]?[\s\x80-\xff]*[\"'`]?[!-~]{{8}}"
_LEAST_CHARS = 16
_LEAST_BITS = 3.0
_PASSWORD_CHARS = 8


class SecretsConfig(Settings):
    """Settings of the step `secrets`."""

    action: Literal["mask", "drop"] = Field("mask", description="put [SECRET] in its place, or drop the whole record")


class Secrets(Cleaner):
    """On by default: a masked key costs a row nothing, a learned one can be asked out of the model."""

    does: ClassVar[str] = "keys, tokens and passwords become [SECRET]"
    private: ClassVar[bool] = True
    Config = SecretsConfig

    def __init__(self, config: SecretsConfig) -> None:
        super().__init__(config)
        self._drop = config.action == "drop"

    def marks(self) -> list[str]:
        """What the known shapes begin with, and a telling name before a value."""
        known = [mark for kind, marks, _ in _SHAPES for mark in marks if kind != "password in a URL"]
        return [any_of(known), "://[^ /@]+:[^ /@]+@", _ASSIGNED_MARK]

    def text(self, text: str) -> str:
        """The text with no secret in it."""
        if not self._drop:
            while (cleaned := self._masked(text)) is not text:
                text = cleaned
        return text

    def refuse(self, texts: Sequence[str], record: Mapping[str, Any]) -> str:
        """Whether a text has a secret, where such records are dropped."""
        if self._drop and any(self._masked(text) is not text for text in texts):
            return "a text holds a key, token or password"
        return ""

    def _masked(self, text: str) -> str:
        cleaned = text
        for kind, marks, pattern in _COMPILED:
            if any(mark in text for mark in marks):
                cleaned, count = pattern.subn("[SECRET]", cleaned)
                if count:
                    self.counts[kind] += count
        cleaned = _ASSIGNED.sub(self._assigned, cleaned)
        return text if cleaned == text else cleaned

    def _assigned(self, found: re.Match[str]) -> str:
        name, between, value = found["name"], found["between"], found["value"]
        secret = value.rstrip(".")
        is_password = re.search("passw|密码|口令", name, re.IGNORECASE) is not None
        if not looks_random(secret, _PASSWORD_CHARS if is_password else _LEAST_CHARS):
            return found[0]
        self.counts["assigned value"] += 1
        return f"{name}{between}[SECRET]{value[len(secret) :]}"


def looks_random(value: str, least_chars: int = _LEAST_CHARS) -> bool:
    """Letters and figures without the pattern of a word: long enough, and of enough entropy a character."""
    if len(value) < least_chars or not re.search("[0-9]", value) or not re.search("[A-Za-z]", value):
        return False
    bits = -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())
    return bits >= min(_LEAST_BITS, math.log2(len(value)) * 0.75)
