import json

import pytest
from cleaner_kit import cleaned, step
from hypothesis import given, settings
from hypothesis import strategies as st

from nacre.base.errors import InputError
from nacre.data.clean.marks import Marks
from nacre.data.clean.pii import KINDS
from nacre.data.clean.pii_context import ADDRESS_PARTS, ADDRESSES, NAME_PARTS, NAMES
from nacre.data.clean.pii_numbers import is_card, is_hong_kong_identity, is_identity

FOUND = [
    ("ID", "11010519491231002X", "身份证号{}，请核对"),
    ("ID", "110105491231002", "旧证号 {} 作废"),
    ("ID", "110105 19491231 002X", "ID {} is on file"),
    ("CARD", "6222 0212 3456 7894", "card {} please"),
    ("CARD", "4539578763621486", "刷卡{}成功"),
    ("CARD", "4111 1111 1111 1111", "the card {} of every shop's examples"),
    ("CARD", "2221000000000009", "Mastercard {}"),
    ("ID", "A123456(3)", "HKID {} of a resident"),
    ("ID", "123-45-6789", "SSN {}."),
    ("PHONE", "13800138000", "电话{}。"),
    ("PHONE", "021 68888888", "座机 {} 转"),
    ("PHONE", "0755-8688 1234", "打{}"),
    ("PHONE", "07911 123456", "text {}"),
    ("PHONE", "020 7946 0958", "ring {}"),
    ("PHONE", "+86 138-0013-8000", "call {} now"),
    ("PHONE", "138 0013 8000", "请打 {} 找我"),
    ("PHONE", "010-62345678", "座机{}"),
    ("PHONE", "(415) 555-2671", "call {}."),
    ("PHONE", "415-555-2671", "call {}, please"),
    ("PHONE", "+44 20 7946 0958", "ring {} today"),
    ("EMAIL", "Zhang.San+x@mail.example.com.cn", "写信给{}吧"),
    ("PASSPORT", "E12345678", "护照{}过期"),
    ("PASSPORT", "530123456", "passport number {} expired"),
    ("PLATE", "京A·12345", "车牌{}的车"),
    ("PLATE", "粤BD12345", "{}停在门口"),
    ("IP", "114.23.5.17", "from {} again"),
    ("IP", "2001:db8::8a2e:370:7334", "host {} up"),
    ("ADDRESS", "北京市朝阳区建国路88号3号楼201室", "我住在{}，很近"),
    ("ADDRESS", "221 Baker Street", "She lives at {}."),
    ("ADDRESS", "1600 Oak Hill Avenue, Apt 4, Springfield, IL 62704", "Ship to {} please"),
    ("ADDRESS", "杭州市西湖区文三路 259 号", "寄到{}"),
    ("ADDRESS", "广东省深圳市南山区科技园南区8栋301室", "住在{}，"),
    ("ADDRESS", "河北省石家庄市赵县王家村3组12号", "地址：{}"),
    ("ADDRESS", "1600 Pennsylvania Avenue NW, Washington, DC 20500", "to {}!"),
    ("ADDRESS", "PO Box 1234, Springfield", "write to {}"),
    ("NAME", "张伟", "我叫{}，今年二十"),
    ("NAME", "王小明", "我叫{}。"),
    ("NAME", "赵敏", "收件人 {}"),
    ("NAME", "张三", "患者{}因咳嗽就诊"),
    ("NAME", "陈丽", "联系人{}电话"),
    ("NAME", "买买提·吐尔逊", "姓名：{}，"),
    ("NAME", "李小龙", "请{}老师来"),
    ("NAME", "Jane O'Neil", "I met Dr. {} today"),
    ("NAME", "Ann McDonald", "Patient: {}"),
    ("NAME", "Abigail Grayson", "Name: Dr. {}\n"),
    ("NAME", "Luka Kovač", "Dr. {} came"),
    ("NAME", "欧阳娜娜", "联系人：{}。"),
    ("NAME", "Alice Whitfield", "My name is {}."),
    ("NAME", "李华", "我是{}，请多关照"),
    ("NAME", "李华", "大家好，我是{}。"),
    ("NAME", "欧阳锋", "我是{}"),
    ("NAME", "李华", "我叫{}"),
    ("NAME", "王", "{}先生来了"),
    ("NAME", "李", "请联系{}女士。"),
    ("NAME", "张", "市民{}先生说"),
    ("NAME", "欧阳", "，{}太太"),
    ("NAME", "刘", "我问{}老师了"),
    ("NAME", "John Smith", "Hi, I'm {}."),
    ("NAME", "John Smith", "I am {} from the bank"),
    ("NAME", "Mary-Ann J. O'Neil", "Hello, I’m {}, your agent"),
    ("NAME", "John Smith", "My name is {}."),
    ("NAME", "Robert J. Harrow", "a letter to Mr. {} arrived"),
]


@pytest.mark.parametrize(("kind", "value", "around"), FOUND)
def test_what_belongs_to_a_person_is_masked(kind, value, around):
    assert cleaned("pii", around.format(value)) == around.format(f"[{kind}]")


@pytest.mark.parametrize(
    "text",
    [
        "In 2024 there were 13,800,138 people, 3.14159265358979 is pi",
        "order 110105194912310021 has a wrong check digit",
        "1234567812345678 is no card, 4111 apples",
        "version 1.2.3.4.5, 10.0, 127.0.0.1, 255.255.255.0",
        "at 12:30:45, std::vector<int>, a::b",
        "@property and x@y, 5@home",
        "第3号文件，路过8号",
        "北京A队赢了，新A股上市",
        "2024-05-20 2024-05-21, 1990-2000, ISBN 978-3-16-148410-0",
        "the Street was empty, 3 things Drive me",
        "call the function, name is a variable, Name: the name",
        "先生您好，老师们",
        "我是程序员。我是高中生，我是江西人，我是高血压。我是白领！我是温和的。我是马来人，我是周末，我是金牛座",
        "我是李子，我是熊猫。我是高富帅，我是石榴。我是安卓用户，我是任性的。我是顾客，我是管理员。我是黄金",
        "应向医生咨询，向老师请教，对方律师，对于先生们，曾经理解，任教授一职，付律师费，主任先生，历史老师",
        "I'm Still Here, I'm Too Sexy, I'm On Fire, I Am Legend, I am Chinese American, I'm Feeling Lucky today",
        "I am New Zealand's fan, I'm Jewish, I am Iron Man, I'm Sorry. I'm British Asian. I am Very Happy!",
        "谢谢医生，许多医生，以前的高中同学，用于协助医生诊断，这段时间医生说",
        "改善患者康复的成功率，保护客户方面发挥作用，客户管理和报告，患者高血压，病人安全",
        "on 15 July St. Swithin's Day",
        "担任助理律师，王牌律师，10万续律师",
        "Customer: Hi there\nBe patient: Finding it takes time. Make eye contact: Engage. Polish name: Sejm",
        "They could Miss America; (name: String) -> Customer: Yes",
    ],
)
def test_ordinary_text_stays(text):
    made = step("pii")
    assert made.text(text) == text, dict(made.counts)


@pytest.mark.shared
def test_little_is_found_in_ordinary_chinese(llamafactory_data):
    """Two people of novels, one of history, a band called Mr. Children, and the addresses that routers have."""
    made = step("pii")
    for row in json.loads((llamafactory_data / "alpaca_zh_demo.json").read_text(encoding="utf-8")):
        for text in row.values():
            made.text(text)
    assert made.counts == {"NAME": 4, "IP": 2}


def test_check_digits():
    assert is_identity("11010519491231002X")
    assert not is_identity("110105194912310021")
    assert not is_identity("99010519491231002X")
    assert is_hong_kong_identity("A123456(3)")
    assert is_hong_kong_identity("AB987654(3)")
    assert not is_hong_kong_identity("A123456(7)")
    assert is_card("6222021234567894")
    assert not is_card("6222021234567895")
    assert not is_card("4444444444444444")


def test_a_pseudonym_is_the_same_for_the_same_person_and_key(monkeypatch):
    monkeypatch.setenv("NACRE_PII_KEY", "k" * 32)
    first = cleaned("pii", "打13800138000或 +86 138 0013 8000", action="pseudonymise")
    again = cleaned("pii", "又是138-0013-8000", action="pseudonymise")
    word = first[1 : first.index("或")]
    assert first == f"打{word}或 {word}"
    assert again == f"又是{word}"
    assert cleaned("pii", "13900139000", action="pseudonymise") != word
    monkeypatch.setenv("NACRE_PII_KEY", "other" * 8)
    assert cleaned("pii", "13800138000", action="pseudonymise") != word


def test_a_pseudonym_needs_a_key(monkeypatch):
    monkeypatch.delenv("NACRE_PII_KEY", raising=False)
    with pytest.raises(InputError) as caught:
        step("pii", action="pseudonymise")
    assert "NACRE_PII_KEY" in str(caught.value)


def test_records_may_be_dropped_instead_and_kinds_left_out():
    drops = step("pii", action="drop")
    assert drops.text("13800138000") == "13800138000"
    assert "PHONE" in drops.refuse(["nothing", "打13800138000"], {})
    assert not drops.refuse(["nothing"], {})
    assert cleaned("pii", "13800138000 a@b.example.com", kinds=("EMAIL",)) == "13800138000 [EMAIL]"


def test_the_users_own_list(tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("李小龙\nProject Falcon\n", encoding="utf-8")
    assert (
        cleaned("pii", "李小龙说Project Falcon好，Alice", names_file=file, names=("Alice",))
        == "[NAME]说[NAME]好，[NAME]"
    )
    assert cleaned("pii", "Malice and Alices", names=("Alice",)) == "Malice and Alices"


PIECES = [value for _, value, _ in FOUND] + [
    " ",
    "，",
    "a",
    "1",
    "-",
    "2024",
    "Mr. ",
    "我叫",
    "先生",
    "[PHONE]",
    ":",
    ".",
    "@x.com",
    "号",
    "路",
]


@settings(max_examples=120, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_cleaning_twice_is_cleaning_once(text):
    cleaned("pii", text)


def test_every_kind_has_an_example():
    assert {kind for kind, _, _ in FOUND} == set(KINDS)


def test_what_a_slow_pattern_matches_shows_the_marks_of_its_own_part():
    assert [pattern for _, patterns in ADDRESS_PARTS for pattern in patterns] == list(ADDRESSES)
    assert sorted(map(id, NAMES)) == sorted(id(pattern) for _, patterns in NAME_PARTS for pattern in patterns)
    texts = [around.format(value) for kind, value, around in FOUND if kind in ("NAME", "ADDRESS")]
    shown = 0
    for marks, patterns in (*ADDRESS_PARTS, *NAME_PARTS):
        part = Marks([marks])
        for text in texts:
            if any(pattern.expression.search(text) for pattern in patterns):
                assert part.steps(text), (text, marks)
                shown += 1
    assert shown >= 20
