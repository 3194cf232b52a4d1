"""What the benchmark hides in its rows: personal data with right check digits, dates, markup, damage. All invented."""

import datetime
import random
from collections.abc import Callable

_SURNAMES = "王李张刘陈杨黄赵周吴徐孙朱马胡郭林何高罗"
_GIVEN = "伟芳娜敏静磊强洋艳勇军杰娟涛明超秀霞平刚桂英华玉兰建国志梅鹏"
_FIRST = (
    "Alice",
    "Robert",
    "Susan",
    "Daniel",
    "Emily",
    "Victor",
    "Hannah",
    "Oliver",
    "Grace",
    "Peter",
    "Laura",
    "Simon",
)
_LAST = ("Whitfield", "Harrow", "Lindqvist", "Okafor", "Brennan", "Castellan", "Mayhew", "Thornton", "Delgado", "Pryce")
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_FIGURES = "〇一二三四五六七八九"
Planted = tuple[str, str]  # the value that must be gone, and the words around it with {} for it


def identity(draw: random.Random) -> Planted:
    born = datetime.date(draw.randint(1940, 2012), draw.randint(1, 12), draw.randint(1, 28))
    first = f"{draw.choice(('110105', '310115', '440305', '510104', '330106'))}{born:%Y%m%d}{draw.randint(0, 999):03d}"
    check = "10X98765432"[sum(w * int(d) for w, d in zip(_WEIGHTS, first, strict=True)) % 11]
    return first + check, draw.choice(
        ("身份证号{}", "证件号码：{}。", "the ID number {} is on file", "登记为 {} ，请核对")
    )


def old_identity(draw: random.Random) -> Planted:
    born = datetime.date(draw.randint(1940, 1985), draw.randint(1, 12), draw.randint(1, 28))
    return f"110105{born:%y%m%d}{draw.randint(0, 999):03d}", draw.choice(("旧身份证号{}", "the old number {} was used"))


def card(draw: random.Random) -> Planted:
    digits = draw.choice(("6222", "6217", "4539", "5425")) + "".join(str(draw.randint(0, 9)) for _ in range(11))
    total = sum(
        value - 9 if value > 9 else value
        for value in (int(d) * (2 - place % 2) for place, d in enumerate(reversed(digits)))
    )
    number = digits + str(-total % 10)
    if draw.random() < 0.4:
        number = " ".join(number[start : start + 4] for start in range(0, len(number), 4))
    return number, draw.choice(("银行卡号{}", "paid with card {} yesterday", "卡号 {} 已冻结"))


def phone(draw: random.Random) -> Planted:
    mobile = f"1{draw.choice('35789')}{draw.randint(0, 9)}{draw.randint(0, 99999999):08d}"
    kind = draw.randrange(5)
    if kind == 0:
        mobile = f"+86 {mobile[:3]} {mobile[3:7]} {mobile[7:]}"
    elif kind == 1:
        mobile = f"{mobile[:3]}-{mobile[3:7]}-{mobile[7:]}"
    elif kind == 2:
        mobile = f"({draw.randint(201, 989)}) {draw.randint(201, 989)}-{draw.randint(0, 9999):04d}"
    elif kind == 3:
        mobile = f"+44 20 7{draw.randint(0, 999):03d} {draw.randint(0, 9999):04d}"
    return mobile, draw.choice(("请拨打{}联系", "call {} after six", "电话：{}", "his number is {}, he said"))


def email(draw: random.Random) -> Planted:
    name = (
        f"{draw.choice(_FIRST).lower()}{draw.choice(('.', '_', ''))}{draw.choice(_LAST).lower()}{draw.randint(1, 99)}"
    )
    address = f"{name}@{draw.choice(('example.com', 'mail.example.org', 'example.com.cn'))}"
    return address, draw.choice(("write to {} for details", "邮箱是{}，请回复", "({})", "E-mail: {}."))


def passport(draw: random.Random) -> Planted:
    number = draw.choice(
        (f"E{draw.randint(0, 99999999):08d}", f"G{draw.randint(0, 99999999):08d}", f"EA{draw.randint(0, 9999999):07d}")
    )
    return number, draw.choice(("护照号码{}", "passport number {} expired", "护照：{}，"))


def plate(draw: random.Random) -> Planted:
    tail = f"{draw.choice('ABCDEFGH')}{draw.randint(0, 9999):04d}"
    number = f"{draw.choice('京沪粤浙苏川')}{draw.choice('ABCDEF')}{draw.choice(('', '·'))}{tail}"
    return number, draw.choice(("车牌{}的车", "一辆 {} 停在门口", "车牌号是{}"))


def address_ip(draw: random.Random) -> Planted:
    if draw.random() < 0.3:
        return f"2001:db8:{draw.randint(1, 9999):x}::{draw.randint(16, 4095):x}a", draw.choice(
            ("from {} again", "地址 {} 已封")
        )
    number = f"{draw.choice((10, 58, 114, 192))}.{draw.randint(1, 254)}.{draw.randint(0, 254)}.{draw.randint(1, 254)}"
    return number, draw.choice(("the host {} answered", "登录地址为{}，", "from {}."))


def street(draw: random.Random) -> Planted:
    if draw.random() < 0.5:
        way = f"{draw.choice(('Maple', 'Harbour', 'Oak Hill', 'Station'))} {draw.choice(('Street', 'Avenue', 'Road'))}"
        value = f"{draw.randint(2, 980)} {way}"
        return value, draw.choice(("She lives at {}.", "sent to {} last week"))
    city = draw.choice(("北京市朝阳区建国", "上海市浦东新区世纪", "广州市天河区体育西"))
    return f"{city}路{draw.randint(1, 999)}号", draw.choice(("地址：{}。", "寄到{}，收"))


def person(draw: random.Random) -> Planted:
    if draw.random() < 0.5:
        name = f"{draw.choice(_FIRST)} {draw.choice(_LAST)}"
        return name, draw.choice(("My name is {}.", "Contact person: {}.", "a letter to Mr. {} arrived"))
    name = draw.choice(_SURNAMES) + "".join(draw.sample(_GIVEN, draw.randint(1, 2)))
    return name, draw.choice(("我叫{}，", "联系人：{}，", "姓名：{}。", "{}先生"))


PII: dict[str, Callable[[random.Random], Planted]] = {
    "ID": identity, "old ID": old_identity, "CARD": card, "PHONE": phone, "EMAIL": email, "PASSPORT": passport,
    "PLATE": plate, "IP": address_ip, "ADDRESS": street, "NAME": person,
}  # fmt: skip


def secret(draw: random.Random) -> Planted:
    letters = "".join(draw.choices("abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789", k=36))
    value = draw.choice(
        (
            f"sk-{letters[:32]}7",
            f"ghp_{letters}",
            f"AKIA{letters[:14].upper()}Q7",
            f"xoxb-{letters[:12]}-{letters[12:24]}",
        )
    )
    return value, draw.choice(('export API_KEY="{}"', "token: {}", "the key is {} so keep it"))


def date(draw: random.Random) -> tuple[str, str]:
    """A date as somebody writes it, and as it must come out."""
    day = datetime.date(draw.randint(1950, 2026), draw.randint(1, 12), draw.randint(13, 28))
    year = "".join(_FIGURES[int(digit)] for digit in str(day.year))
    words = f"{year}年{chinese(day.month)}月{chinese(day.day)}日"
    written = draw.choice(
        (
            f"{day.year}/{day.month}/{day.day}",
            f"{_MONTHS[day.month - 1]} {day.day}, {day.year}",
            f"{day.day} {_MONTHS[day.month - 1][:3]} {day.year}",
            f"{day.month:02d}/{day.day:02d}/{day.year}",
            f"{day.year}年{day.month}月{day.day}日",
            words,
        )
    )
    return written, day.isoformat()


def chinese(number: int) -> str:
    tens, ones = divmod(number, 10)
    return ("" if tens == 0 else ("" if tens == 1 else _FIGURES[tens]) + "十") + (
        "" if ones == 0 and tens else _FIGURES[ones]
    )


def html(draw: random.Random, text: str) -> str:
    """The text as a scraper might have left it."""
    kind = draw.randrange(5)
    if kind == 0:
        return f"<p>{text}</p>"
    if kind == 1:
        return f'<div class="c{draw.randint(1, 99)}"><span style="color: #333">{text}</span><br/></div>'
    if kind == 2:
        return text.replace(" ", "&nbsp;", 1).replace(",", "&#44;", 1) + "<br>"
    if kind == 3:
        return f"<script>var n = {draw.randint(1, 99)};</script><h2>{text}</h2><!-- ad -->"
    return f'<ul><li>{text}</li></ul><a href="https://example.com/{draw.randint(1, 999)}?a=1&b=2">more</a>'


def damaged(draw: random.Random, text: str) -> str:
    """Control characters, zero-width marks, odd line ends, or UTF-8 read as Windows-1252."""
    kind = draw.randrange(4)
    if kind == 0:
        return text.replace(" ", "\u200b ", 2) + "\x07"
    if kind == 1:
        return "\ufeff" + text + "\r\n"
    if kind == 2:
        return text + " It’s “café” – naïve".encode().decode("cp1252", "replace").replace("\ufffd", "")
    return text + draw.choice(("<|im_end|>", "[INST]", "</s>"))
