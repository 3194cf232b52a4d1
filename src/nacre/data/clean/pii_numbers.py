"""Numbers that belong to a person: what they look like, and the checks that tell them from other numbers.

Each kind is a list of patterns with a check. Checks: the Chinese identity number's province, birthday and check digit
(GB 11643-1999, ISO 7064 MOD 11-2), a bank card's Luhn digit (ISO/IEC 7812), an address of the internet's own rules.
"""

import datetime
import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Literal

# first two digits of an identity number, by region of China
Kind = Literal["ID", "CARD", "PHONE", "EMAIL", "PASSPORT", "PLATE", "IP", "NAME", "ADDRESS"]

_PROVINCES = frozenset(
    str(code)
    for codes in (
        range(11, 16),
        range(21, 24),
        range(31, 38),
        range(41, 47),
        range(50, 55),
        range(61, 66),
        (71, 81, 82, 83),
    )
    for code in codes
)
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECK_DIGITS = "10X98765432"
_NO = r"(?![0-9A-Za-z_])"
_MONTH_DAY = r"(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])"


def _always(number: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Pattern:
    """One way to write a kind of number. A match counts where its group ``it`` (or the whole) passes the check."""

    kind: Kind
    expression: re.Pattern[str]
    check: Callable[[str], bool] = _always

    @property
    def group(self) -> str | int:
        """What of a match is masked."""
        return "it" if "it" in self.expression.groupindex else 0


def digits_of(number: str) -> str:
    """The number without spaces, hyphens and brackets."""
    return re.sub(r"[^0-9Xx+]", "", number)


def is_identity(number: str) -> bool:
    """A Chinese identity number: 18 characters with a right check digit, or 15 digits, of a province and a birthday."""
    number = digits_of(number).upper()
    if number[:2] not in _PROVINCES:
        return False
    if len(number) == 15:
        return is_day("19" + number[6:12])
    if len(number) != 18 or not is_day(number[6:14]):
        return False
    total = sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, number[:17], strict=True))
    return _CHECK_DIGITS[total % 11] == number[17]


def is_hong_kong_identity(number: str) -> bool:
    """A Hong Kong identity card such as A123456(3), by its check digit (weights 9 to 1, modulo 11; a blank is 36)."""
    signs = re.sub(r"[^0-9A-Z]", "", number.upper()).rjust(9)
    values = [36 if sign == " " else int(sign, 36) for sign in signs]
    return sum(value * weight for value, weight in zip(values, range(9, 0, -1), strict=True)) % 11 == 0


def is_day(digits: str) -> bool:
    """Whether YYYYMMDD is a day of the calendar that a living person may have been born on."""
    try:
        born = datetime.date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return False
    return 1880 <= born.year <= 2100


def is_card(number: str) -> bool:
    """A payment card: 13 to 19 digits of a known issuer, not all alike, with a right Luhn digit."""
    digits = digits_of(number)
    if not 13 <= len(digits) <= 19 or len(set(digits)) < 2:
        return False
    if not ("3" <= digits[0] <= "6" or "2221" <= digits[:4] <= "2720"):
        return False
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def is_international(number: str) -> bool:
    """A number with a country code (ITU-T E.164): 8 to 15 digits, not beginning with 0."""
    digits = digits_of(number).lstrip("+")
    return 8 <= len(digits) <= 15 and digits[0] != "0"


def is_ipv4(address: str) -> bool:
    """An address of a machine: not this machine, nobody, everybody or a network mask."""
    try:
        found = IPv4Address(address)
    except AddressValueError:
        return False
    return not (found.is_loopback or found.is_unspecified or found.is_multicast or address.startswith(("255.", "0.")))


def is_ipv6(address: str) -> bool:
    """An address of a machine; ``a::b`` in a program is none."""
    if sum(character.isdigit() for character in address) < 1 or len(address.replace(":", "")) < 4:
        return False
    try:
        found = IPv6Address(address)
    except AddressValueError:
        return False
    return not (found.is_loopback or found.is_unspecified)


IDENTITY = (
    Pattern(
        "ID",
        re.compile(
            rf"(?<![0-9A-Za-z_.])[1-8][0-9]{{5}}[ -]?(?:18|19|20)[0-9]{{2}}{_MONTH_DAY}[ -]?[0-9]{{3}}[0-9Xx]{_NO}"
        ),
        is_identity,
    ),
    Pattern(
        "ID", re.compile(rf"(?<![0-9A-Za-z_.+-])[1-8][0-9]{{7}}{_MONTH_DAY}[0-9]{{3}}{_NO}(?![.-][0-9])"), is_identity
    ),
    Pattern(
        "ID",
        re.compile(
            r"(?:身份证|居民证|证件)(?:号码|号)?[是为:：\s]{0,3}(?P<it>[1-8][0-9]{16}[0-9Xx]|[1-8][0-9]{14})(?![0-9Xx])"
        ),
    ),
    Pattern("ID", re.compile(r"(?<![0-9A-Za-z_])[A-Z]{1,2}[0-9]{6}\s?[(（][0-9A][)）]"), is_hong_kong_identity),
    # of the United States; area 000, 666 and 9xx, group 00 and number 0000 are never given out
    Pattern(
        "ID",
        re.compile(r"(?<![0-9A-Za-z_.-])(?!000|666|9)[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}(?![0-9A-Za-z_]|-[0-9])"),
    ),
)
CARD = (
    Pattern("CARD", re.compile(r"(?<![0-9A-Za-z_.+-])[2-6](?:[ -]?[0-9]){12,18}(?![0-9A-Za-z_]|[.-][0-9])"), is_card),
)
PHONE = (
    Pattern(
        "PHONE",
        re.compile(
            r"(?<![0-9A-Za-z_.-])(?:(?:\+|00)?86[- ]?)?1[3-9][0-9](?:[- ]?[0-9]{4}){2}(?![0-9A-Za-z_]|[-.][0-9])"
        ),
    ),
    Pattern(
        "PHONE",
        re.compile(
            r"(?<![0-9A-Za-z_.-])(?:\(0[1-9][0-9]{1,2}\)|（0[1-9][0-9]{1,2}）|0[1-9][0-9]{1,2}[- ])"
            r"\s?[2-9][0-9]{2,3}[- ]?[0-9]{4}(?:-[0-9]{1,5})?(?![0-9A-Za-z_]|-[0-9])"
        ),
    ),
    Pattern(  # of the United Kingdom, as they are written without the country
        "PHONE",
        re.compile(
            r"(?<![0-9A-Za-z_.+-])(?:0[0-9]{2} [0-9]{4} [0-9]{4}|07[0-9]{3} ?[0-9]{6}|07[0-9]{3} [0-9]{3} [0-9]{3}"
            r"|01[0-9]{2,3} [0-9]{3} ?[0-9]{3,4})(?![0-9A-Za-z_]|[-.][0-9])"
        ),
    ),
    Pattern(
        "PHONE",
        re.compile(r"(?<![0-9A-Za-z_+])\+[1-9][0-9]{0,2}(?:[-. ]?\(?[0-9]{1,5}\)?){2,6}(?![0-9A-Za-z_])"),
        is_international,
    ),
    Pattern(
        "PHONE",
        re.compile(
            r"(?<![0-9A-Za-z_.+-])(?:1[-. ])?(?:\([2-9][0-9]{2}\)[-. ]?|[2-9][0-9]{2}[-. ])"
            r"[2-9][0-9]{2}[-. ][0-9]{4}(?![0-9A-Za-z_]|[-.][0-9])"
        ),
    ),
    Pattern(
        "PHONE",
        re.compile(
            r"(?i)(?:phone|mobile|telephone|\btel|\bcell|whatsapp|电话|手机|微信|联系方式)[^0-9\n]{0,14}(?P<it>[0-9]{7,12})(?![0-9A-Za-z_]|[.-][0-9])"
        ),
    ),
)
EMAIL = (
    Pattern(
        "EMAIL",
        re.compile(
            r"(?<![A-Za-z0-9._%+\-])[A-Za-z0-9_%+\-](?:[A-Za-z0-9._%+\-]{0,63})@(?:[A-Za-z0-9\-]{1,63}\.)+[A-Za-z]{2,24}(?![A-Za-z0-9])"
        ),
    ),
)
PASSPORT = (
    Pattern("PASSPORT", re.compile(r"(?<![0-9A-Za-z_-])(?:[EG][0-9]{8}|E[A-HJ-NP-Z][0-9]{7})(?![0-9A-Za-z_-])")),
    Pattern(
        "PASSPORT",
        re.compile(
            r"(?i:护照|passport)(?i:号码|号|\s+(?:number|no\.?))?(?:\s*(?i:is|was|是|为|[:：#]))?\s*(?P<it>[A-Za-z]{1,2}[0-9]{6,8}|[0-9]{9})(?![0-9A-Za-z_])"
        ),
    ),
)
PLATE = (
    Pattern(
        "PLATE",
        re.compile(
            "[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-HJ-NP-Z][·•・ -]?"
            "(?=[A-HJ-NP-Z]{0,4}[0-9])(?:[A-HJ-NP-Z0-9]{6}|[A-HJ-NP-Z0-9]{4}[A-HJ-NP-Z0-9挂学警港澳])(?![0-9A-Za-z_])"
        ),
    ),
)
IP = (
    Pattern("IP", re.compile(r"(?<![0-9A-Za-z_.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9A-Za-z_]|\.[0-9])"), is_ipv4),
    Pattern(
        "IP", re.compile(r"(?<![0-9A-Za-z_:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![0-9A-Za-z_:])"), is_ipv6
    ),
)

_PHONE_WORDS = "(phone|mobile|tel|cell|whatsapp|电话|手机|微信|联系方式)"
MARKS: dict[Kind, tuple[str, ...]] = {
    "EMAIL": ("[A-Za-z0-9_%+-]@[A-Za-z0-9-]+[.]",),
    "ID": (
        "[0-9]([ -]?[0-9]){14}",
        "[A-Z][0-9]{6}[\\s\\x80-\\xff]{0,3}(\\(|（)[0-9A]",
        "[0-9]{3}-[0-9]{2}-[0-9]{4}",
    ),
    "CARD": ("[2-6]([ -]?[0-9]){12}",),
    "PHONE": (
        "1[3-9][0-9][- ]?[0-9]{4}[- ]?[0-9]{4}",
        "(\\(|（|[^0-9])0[1-9][0-9]{1,2}(-|\\)|）| )",
        "^0[1-9][0-9]{1,2}[- ]",
        "0(20 |1[0-9]{2,3} |7[0-9]{3} ?)[0-9]{3}",
        "[+][1-9]([-. ()]{0,3}[0-9]){5}",
        "[2-9][0-9]{2}[)]?[-. ]{1,2}[2-9][0-9]{2}[-. ][0-9]{4}",
        "[)][2-9][0-9]{2}[-. ][0-9]{4}",
        f"(?i){_PHONE_WORDS}[^0-9\\n]*[0-9]{{7}}",
    ),
    "PASSPORT": ("[EG][A-Z0-9][0-9]{7}", "(?i)(护照|passport)[^\\n]{0,40}[0-9]{6}"),
    "PLATE": (
        "(京|津|沪|渝|冀|豫|云|辽|黑|湘|皖|鲁|新|苏|浙|赣|鄂|桂|甘|晋|蒙|陕|吉|闽|贵|粤|青|藏|川|宁|琼)"
        "[A-HJ-NP-Z](·|•|・| |-)?[A-HJ-NP-Z0-9]{4}",
    ),
    "IP": (
        "[0-9][.][0-9]{1,3}[.][0-9]{1,3}[.][0-9]",
        "[0-9A-Fa-f]:[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{1,4}:",
        "::[0-9A-Fa-f]|[0-9A-Fa-f]::",
    ),
}
"""For each kind what every text with such a number shows; see `Marks`. Lengths count bytes of UTF-8."""
