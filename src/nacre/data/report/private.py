"""Personal data and secrets, by kind: how often, in how many rows. What was found is never kept."""

from collections import Counter

from nacre.data.clean.pii import Pii, PiiConfig
from nacre.data.clean.secrets import Secrets, SecretsConfig
from nacre.data.report.records import Flag, Private, Said

BY_CONTEXT = ("NAME", "ADDRESS")  # told by the words beside them: some are none, some are missed
_SECRET = "SECRET"
KINDS = {
    "EMAIL": Said(en="e-mail", zh="电子邮箱"),
    "ID": Said(en="identity number", zh="身份证号"),
    "CARD": Said(en="bank card", zh="银行卡"),
    "PASSPORT": Said(en="passport", zh="护照"),
    "IP": Said(en="IP address", zh="IP 地址"),
    "PLATE": Said(en="licence plate", zh="车牌"),
    "PHONE": Said(en="phone", zh="电话"),
    "ADDRESS": Said(en="address", zh="地址"),
    "NAME": Said(en="name", zh="姓名"),
    "SECRET": Said(en="key or token", zh="密钥或令牌"),
}


class Privacy:
    """Masks texts, and counts what it masked."""

    def __init__(self) -> None:
        self._pii = Pii(PiiConfig())
        self._secrets = Secrets(SecretsConfig())
        self._found: Counter[str] = Counter()
        self._rows: Counter[str] = Counter()
        self._any = 0

    def mask(self, *texts: str, count: bool = True) -> list[str]:
        """The texts of one row without personal data and secrets."""
        masked = [self._pii.text(self._secrets.text(text)) if text else text for text in texts]
        found = Counter(self._pii.counts)
        if secrets := self._secrets.counts.total():
            found[_SECRET] = secrets
        self._pii.counts.clear()
        self._secrets.counts.clear()
        if found and count:
            self._found += found
            self._rows.update(found.keys())
            self._any += 1
        return masked

    def result(self) -> Private:
        """The counts."""
        found = dict(self._found.most_common())
        return Private(found=found, rows={kind: self._rows[kind] for kind in found}, any_row=self._any)


def flags(found: Private, rows: int) -> list[Flag]:
    """Whether there is anything private in the rows."""
    if not found.found:
        return []
    en = ", ".join(f"{KINDS[kind].en} {count:,}" for kind, count in found.found.items())
    zh = "、".join(f"{KINDS[kind].zh} {count:,}" for kind, count in found.found.items())
    said = Said(
        en=f"{found.any_row:,} of {rows:,} rows hold personal data or secrets: {en}.",
        zh=f"{rows:,} 行中有 {found.any_row:,} 行含个人信息或密钥：{zh}。",
    )
    advice = Said(
        en="Mask them before training (nacre data clean --steps default,pii). Names and addresses are told by context: "
        "look at some before you believe their number.",
        zh="请在训练前遮盖（nacre data clean --steps default,pii）。姓名与地址按上下文判断，数量仅供参考，请抽查。",
    )
    return [Flag(measure="private", level="flag", found=said, advice=advice)]
