import json

import pytest
from cleaner_kit import cleaned, step
from hypothesis import given, settings
from hypothesis import strategies as st

from nacre.base.errors import InputError
from nacre.data.clean.chain import choose

QUICK = settings(max_examples=40, deadline=None)


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("<p>Hello&nbsp;<b>world</b></p>", "Hello world"),
        ("one<br>two<br/>three", "one\ntwo\nthree"),
        ("<script>alert('x < y')</script>text<!-- ad -->", "text"),
        ("<a href=\"https://x.org/?a=1&b=2\" target='_blank'>link</a> &amp; more", "link & more"),
        ("<ul><li>a</li><li>b</li></ul>", "a\n\nb"),
        ("5 &lt; 6 &amp;&amp; 7 &gt; 2", "5 < 6 && 7 > 2"),
        ("&amp;lt;b&amp;gt;x&amp;lt;/b&amp;gt;", "x"),
    ],
)
def test_html_goes_and_its_text_stays(dirty, clean):
    assert cleaned("html", dirty) == clean


@pytest.mark.parametrize(
    "text",
    [
        "if a < b and c > d then x<y",
        "x<b>c and a<i>0",
        "List<String> names = new ArrayList<>();",
        "replace <your name> and <title> here",
        "AT&T, R&D, a=1&copy=2",
        "use `<b>bold</b>` in markdown",
        '```html\n<div class="x">hi</div>\n```',
        "a <= b, b >= c, a << 2, <3",
        "<image> what is in the picture? <video>",
        "<think>hm</think> <tool_call>{}</tool_call>",
    ],
)
def test_what_only_looks_like_html_stays(text):
    made = step("html")
    assert made.text(text) is text


def test_a_page_that_was_asked_for_is_kept_and_counted():
    page = "<!DOCTYPE html>\n<html><body><p>Hi</p></body></html>"
    keeps = step("html")
    assert keeps.text(page) is page
    assert "1 texts are pages" in keeps.notes()[0]
    assert cleaned("html", page, pages="strip") == "Hi"


def test_a_text_that_speaks_of_html_is_kept_a_link_is_not():
    table = "Here is your HTML table: <table><tr><td>1</td></tr></table>"
    assert step("html").text(table) is table
    assert cleaned("html", '<a href="https://x.org/a.html">a.html</a>') == "a.html"


def test_invisible_characters_go_and_joiners_that_mean_something_stay():
    assert cleaned("control", "a\u200bb\ufeff\x07c\r\nd\re\u2028f\x00") == "abc\nd\ne\nf"
    family, persian = "👨\u200d👩\u200d👧", "می\u200cخواهم"
    assert step("control").text(family) is family
    assert step("control").text(persian) is persian
    assert cleaned("control", "A\u200dB 中\u200d文") == "AB 中文"


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("cafÃ©", "café"),
        ("itâ€™s", "it’s"),
        ("ä½\xa0å¥½ï¼Œä¸–ç•Œ", "你好，世界"),
        ("e\u0301", "é"),
        ("\u212bngstrom", "Ångstrom"),
        ("电话１３８ＡＢ，好！", "电话138AB，好！"),
    ],
)
def test_unicode_has_one_spelling(dirty, clean):
    assert cleaned("unicode", dirty) == clean


def test_mojibake_that_cannot_be_repaired_stays_and_is_not_counted():
    made = step("unicode")
    assert made.text("ä½ å¥½ 再见\u200b") == "ä½ å¥½ 再见\u200b"
    assert not made.counts["mojibake"]


def test_sound_text_is_no_mojibake_and_wide_punctuation_is_an_option():
    for text in ("naïve café, São Paulo, Ärger – “quote”", "x² + y³ ≤ 4", "你好，世界！（好）", "Ð is a letter"):
        assert step("unicode").text(text) is text
    assert cleaned("unicode", "你好，世界！", full_width="all") == "你好,世界!"
    assert step("unicode", full_width="keep").text("１２") == "１２"
    assert step("unicode", mojibake=False).text("cafÃ©") == "cafÃ©"


@pytest.mark.parametrize(
    "token",
    [
        "<|im_end|>",
        "<|endoftext|>",
        "</s>",
        "<s>",
        "[/INST]",
        "<<SYS>>",
        "<eos>",
        "<｜end▁of▁sentence｜>",
        "<end_of_turn>",
    ],
)
def test_control_tokens_lose_their_power(token):
    text = f"hello {token} world"
    after = cleaned("tokens", text)
    assert token not in after
    assert after.replace(" ", "") == text.replace(" ", "")
    assert cleaned("tokens", text, action="remove") == "hello  world"
    drops = step("tokens", action="drop")
    assert drops.text(text) is text
    assert token in drops.refuse([text], {})
    assert not drops.refuse(["plain <b>"], {})


def test_taking_a_token_out_makes_no_new_one():
    assert cleaned("tokens", "<|im_<|im_end|>end|>", action="remove") == ""


@pytest.mark.parametrize(
    "written",
    [
        "2024-05-20",
        "2024/5/20",
        "2024.05.20",
        "May 20, 2024",
        "May 20th, 2024",
        "20 May 2024",
        "20th of May 2024",
        "Sept. 3, 2021",
        "2024年5月20日",
        "2024 年 5 月 20 号",
        "二〇二四年五月二十日",
        "二零二四年十二月三十一日",
        "05/20/2024",
        "20.05.2024",
    ],
)
def test_every_way_to_write_a_date_becomes_one(written):
    expected = {"Sept. 3, 2021": "2021-09-03", "二零二四年十二月三十一日": "2024-12-31"}.get(written, "2024-05-20")
    assert cleaned("dates", f"it was {written}.") == f"it was {expected}."


def test_other_formats_and_a_format_of_ones_own():
    assert cleaned("dates", "2024-05-20", format="us") == "May 20, 2024"
    assert cleaned("dates", "May 5, 2024", format="uk") == "5 May 2024"
    assert cleaned("dates", "2024-05-20", format="chinese") == "2024年5月20日"
    assert (
        cleaned("dates", "2024年5月20日, 2024-05-21", format="us", chinese_format="chinese")
        == "2024年5月20日, May 21, 2024"
    )
    assert cleaned("dates", "2024-05-20", format="%d %b %Y") == "20 May 2024"


def test_ambiguous_impossible_and_other_numbers_stay_and_are_counted():
    made = step("dates")
    for text in (
        "03/04/2024",
        "2023-02-30",
        "2024-05-20T10:00:00Z",
        "1.2.3.4",
        "v2024-05-20-1",
        "5/6",
        "1999/2000/2001",
    ):
        assert made.text(text) == text, text
    notes = " ".join(made.notes())
    assert "1 such as 03/04/2024" in notes
    assert "1 are no day" in notes
    assert cleaned("dates", "03/04/2024", numeric_order="day_first") == "2024-04-03"
    assert cleaned("dates", "03/04/2024", numeric_order="month_first") == "2024-03-04"


@pytest.mark.parametrize("pattern", ["%Y-%m", "%Y-%m-%d-%d", "%H", "plain"])
def test_a_format_must_name_a_whole_date(pattern, tmp_path):
    config = tmp_path / "clean.yaml"
    config.write_text(json.dumps({"dates": {"format": pattern}}))
    with pytest.raises(InputError) as caught:
        choose(["dates"], config)
    assert "format" in str(caught.value)


def _glossary(tmp_path, text, name="terms.tsv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_synonyms_become_preferred_terms(tmp_path):
    file = _glossary(
        tmp_path, "synonym\tpreferred\nheart attack\tmyocardial infarction\nMI\tmyocardial infarction\n心梗\t心肌梗死\n"
    )
    for dirty, clean in (
        ("A heart attack. Heart attack!", "A myocardial infarction. Myocardial infarction!"),
        ("MI, but not mi or AMIGO", "myocardial infarction, but not mi or AMIGO"),
        ("患者心梗三天", "患者心肌梗死三天"),
        ("heart attacks stay", "heart attacks stay"),
        ("a myocardial infarction", "a myocardial infarction"),
    ):
        assert cleaned("glossary", dirty, file=file) == clean


def test_terms_are_found_however_their_letters_are_written(tmp_path):
    file = _glossary(tmp_path, "kelvin scale\tabsolute scale\nétat de choc\tshock\nοδός\tstreet\nC++ (old)\tC++98\n")
    for dirty, clean in (
        ("the \u212aELVIN scale", "the absolute scale"),  # the Kelvin sign, which becomes a k
        ("ÉTAT de Choc", "shock"),
        ("ΟΔΌΣ 5", "street 5"),
        ("in c++ (old) only", "in C++98 only"),
    ):
        assert cleaned("glossary", dirty, file=file) == clean
    large = _glossary(tmp_path, "".join(f"term {n}\tword {n}x\n" for n in range(2001)), "large.tsv")
    assert step("glossary", file=large).marks() is None
    assert cleaned("glossary", "a term 7 here", file=large) == "a word 7x here"


def test_the_longest_term_wins_and_chains_are_followed(tmp_path):
    file = _glossary(tmp_path, "a b,x\na b c,y\np,q\nq,r\nu,v\nv,u\nk,k plus k\n", "terms.csv")
    assert cleaned("glossary", "a b c and a b, p; u; k", file=file) == "y and x, r; u; k plus k"
    assert "circle" in " ".join(step("glossary", file=file).notes())


def test_a_glossary_may_be_yaml_and_a_bad_line_is_named(tmp_path):
    file = _glossary(tmp_path, "hypertension: [high blood pressure, HTN]\nflu: influenza\n", "terms.yaml")
    assert cleaned("glossary", "HTN and flu", file=file) == "hypertension and influenza"
    with pytest.raises(InputError) as caught:
        step("glossary", file=_glossary(tmp_path, "a\tb\nc\n"))
    assert "line 2" in caught.value.where


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcdefghij1234567890ABCD",
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_" + "a1B2" * 9,
        "xoxb-123456789012-abcdefABCDEF",
        "AIza" + "Sy0_-" * 7,
        "hf_" + "abcde12345" * 3,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmN",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabc=\n-----END RSA PRIVATE KEY-----",
        "glpat-abcdefghij0123456789",
    ],
)
def test_secrets_are_masked(secret):
    assert cleaned("secrets", f"use {secret} now") == "use [SECRET] now"


def test_assigned_values_are_secret_where_they_look_random():
    assert cleaned("secrets", 'api_key = "9fK2mQ7xLw3ZpR8t"') == 'api_key = "[SECRET]"'
    assert cleaned("secrets", "password: hunter2024xyz!") == "password: [SECRET]"
    assert cleaned("secrets", "密码：Abc12345xyz") == "密码：[SECRET]"
    assert cleaned("secrets", "postgres://bob:s3cr3t@db/x") == "postgres://[SECRET]@db/x"
    for text in (
        "token: str = None",
        "the secret: patience and practice",
        "api_key=os.environ['API_KEY']",
        "key points: a, b",
        "https://x.org/a:b",
    ):
        assert step("secrets").text(text) is text, text


TEXTS = st.one_of(
    st.text(max_size=60),
    st.lists(
        st.sampled_from(
            [
                "<p>",
                "</p>",
                "<b>",
                "</b>",
                "&lt;",
                "&amp;",
                "&nbsp;",
                "<",
                ">",
                " ",
                "a",
                "`",
                "```",
                "<br>",
                "<!--",
                "-->",
                "div",
                "=",
                "\u200b",
                "\u200d",
                "\r",
                "\n",
                "Ã©",
                "â€™",
                "e",
                "\u0301",
                "Ａ",
                "，",
                "中",
                "<|im_end|>",
                "<s>",
                "[INST]",
                "2024",
                "-05",
                "-20",
                "05/20/2024",
                "May 5, ",
                "二〇二四年五月二十日",
                "年",
                "月",
                "日",
                "key=",
                "sk-abcdefghij1234567890",
                "password:",
                "<script>",
            ]
        ),
        max_size=14,
    ).map("".join),
)


@QUICK
@given(TEXTS)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("html", {}),
        ("html", {"pages": "strip"}),
        ("control", {}),
        ("unicode", {}),
        ("unicode", {"full_width": "all"}),
        ("tokens", {}),
        ("tokens", {"action": "remove"}),
        ("dates", {}),
        ("dates", {"format": "us"}),
        ("dates", {"format": "chinese", "numeric_order": "day_first"}),
        ("secrets", {}),
    ],
)
def test_cleaning_twice_is_cleaning_once(name, options, text):
    cleaned(name, text, **options)


@QUICK
@given(st.lists(st.sampled_from(["a", "b", "a b", "c d", " ", ",", "x", "甲", "乙", "MI"]), max_size=12).map("".join))
def test_the_glossary_comes_to_rest(tmp_path_factory, text):
    file = tmp_path_factory.getbasetemp() / "rest.csv"
    file.write_text("a,x\na b,c d\nc d,甲\n乙,b c\nMI,m i\n", encoding="utf-8")
    cleaned("glossary", text, file=file)


@pytest.mark.parametrize("date", ["may 20, 2024", "MAY 20 2024", "20 MAY 2024", "20th of may, 2024"])
def test_months_in_any_case(date):
    assert cleaned("dates", f"on {date}.") == "on 2024-05-20."


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("the password is Tr0ub4dor&3", "the password is [SECRET]"),
        ("Authorization: Bearer abcdef1234567890abcdef12", "Authorization: Bearer [SECRET]"),
        ("id LTAI5tAbCdEfGhIjKlMnOpQr", "id [SECRET]"),
        ("id AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE", "id [SECRET]"),
    ],
)
def test_more_ways_to_write_a_secret(text, masked):
    assert cleaned("secrets", text) == masked


def test_what_only_speaks_of_secrets_stays():
    for text in ("the password is required", "a Bearer token is a string", "Bearer authentication-schemes-in-use"):
        assert step("secrets").text(text) is text
