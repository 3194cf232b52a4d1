"""Names and addresses, which have no check digit: told by what stands beside them. No model, no word list of names.

Such rules miss names without a context and take some words for names; what a run found of them is counted apart.
"""

import re

from nacre.data.clean.marks import any_of
from nacre.data.clean.pii_numbers import Pattern

_SURNAMES = (
    "欧阳|司马|上官|诸葛|司徒|东方|独孤|慕容|令狐|皇甫|尉迟|公孙|夏侯|"
    "[王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆汪范金石廖贾"
    "夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤温康施牛樊葛邢安齐庞颜庄章鲁倪聂焦管柴梅盛霍翁]"
)
# characters that end a sentence's subject rather than a given name
_NO_GIVEN = (
    "的是在和与或也都就要会能可已曾今现来去到从向对为被把让给有没不很太最我你他她它们这那哪什么"
    "吗呢吧啊了着过年月日岁先女小老医教经律"
)
_GIVEN = rf"[^\W\da-zA-Z_{_NO_GIVEN}]"
_CHINESE_LEADS = (
    "我叫", "名叫", "姓名", "名字是", "名字叫", "联系人", "患者", "病人", "收件人", "寄件人", "经办人", "持卡人",
    "户名", "签名", "法定代表人", "申请人", "客户",
)  # fmt: skip
_CHINESE_TITLES = ("先生", "女士", "小姐", "同学", "老师", "医生", "教授", "经理", "律师")
_LATIN = r"[A-Z][a-zà-öø-ÿ]+(?:[-'][A-Z][a-zà-öø-ÿ]+)?"
NAME_MARKS = (
    any_of((*_CHINESE_LEADS, *_CHINESE_TITLES)),
    "([Nn]ame is|[Nn]ames?:|[Cc]ontact( person)?:|[Pp]atient:|[Cc]ustomer:|[Ss]igned by|[Rr]ecipient:)[ \\t]+[A-Z]",
    "(Mr|Mrs|Ms|Miss|Dr|Prof)[.]?[ \\t]+[A-Z]",
)

_LATIN_NAME = rf"(?P<it>{_LATIN}(?:[ \t]+[A-Z]\.)?(?:[ \t]+{_LATIN}){{0,2}})"
_LATIN_LEAD = (
    r"\b(?:[Mm]y (?:full )?name is|(?:[Ff]ull |[Ff]irst |[Ll]ast )?[Nn]ames?:|[Cc]ontact(?: person)?:|[Pp]atient:"
    r"|[Cc]ustomer:|[Ss]igned by|[Rr]ecipient:)"
)
_CHINESE_NAME = rf"(?P<it>(?:{_SURNAMES}){_GIVEN}{{1,2}})"

NAMES = (
    Pattern("NAME", re.compile(rf"(?:{'|'.join(_CHINESE_LEADS)})(?:\s*[:：]\s*|是|叫|为)?{_CHINESE_NAME}")),
    Pattern("NAME", re.compile(rf"{_CHINESE_NAME}(?={'|'.join(_CHINESE_TITLES)})")),
    Pattern("NAME", re.compile(rf"{_LATIN_LEAD}[ \t]+{_LATIN_NAME}")),
    Pattern("NAME", re.compile(rf"\b(?:Mr|Mrs|Ms|Miss|Dr|Prof)\.?[ \t]+{_LATIN_NAME}")),
)

_UNIT = r"(?:[ \t]*,?[ \t]*(?:Apt|Apartment|Suite|Unit|Floor|#)\.?[ \t]*#?[0-9A-Za-z\-]{1,6})?"
_TOWN = rf"(?:,[ \t]*{_LATIN}(?:[ \t]{_LATIN})?)?(?:,[ \t]*[A-Z]{{2}}\b)?(?:[ \t]+[0-9]{{5}}(?:-[0-9]{{4}})?)?"
_WAY = "Street|Avenue|Road|Boulevard|Lane|Drive|Court|Place|Square|Terrace|Highway|Parkway"
_WAY_NAME = rf"(?:[NSEW]\.?[ \t]+)?(?:{_LATIN}|[0-9]{{1,3}}(?:st|nd|rd|th))(?:[ \t]+{_LATIN}){{0,2}}?"
# Chinese characters but those that lead up to an address: at, to, from, live, send, is
_HAN = r"(?:(?![在到于是住寄送至往从为址])[\u4e00-\u9fff])"
_REGION = (
    rf"(?:{_HAN}{{2,7}}(?:省|自治区))?(?:{_HAN}{{2,6}}[市州盟])?(?:{_HAN}{{1,6}}[区县旗])?"
    rf"(?:{_HAN}{{1,8}}(?:镇|乡|街道))?"
)
_WAY_CHINESE = rf"{_HAN}{{1,8}}?(?:路|街|大道|巷|弄|胡同|道)(?:[0-9一二三四五六七八九十]{{1,3}}[段弄巷])?"
_DOOR = r"(?:[0-9A-Za-z一二三四五六七八九十甲乙丙丁]{1,4}(?:号楼|栋|幢|座|单元|室|楼|层|号)){0,5}"

ADDRESSES = (
    Pattern(
        "ADDRESS",
        re.compile(
            rf"(?<![0-9A-Za-z_.,$-])[0-9]{{1,5}}[A-Za-z]?[ \t]+{_WAY_NAME}"
            rf"[ \t]+(?:{_WAY}|(?:St|Ave|Rd|Blvd|Ln|Dr)\b\.?){_UNIT}{_TOWN}"
        ),
    ),
    Pattern("ADDRESS", re.compile(rf"{_REGION}{_WAY_CHINESE}\s?[0-9]{{1,5}}(?:-[0-9]{{1,4}})?[号弄](?!线){_DOOR}")),
)
_MARK_WORD = r"[A-Z0-9][A-Za-z0-9.'\x80-\xff-]*"
ADDRESS_MARKS = (
    "(路|街|大道|巷|弄|胡同|道)([0-9]|一|二|三|四|五|六|七|八|九|十|段|弄|巷){0,4}"
    "[\\s\\x80-\\xff]{0,3}[0-9]{1,5}(-[0-9]{1,4})?(号|弄)",
    rf"[0-9][A-Za-z]?[ \t]+{_MARK_WORD}([ \t]+{_MARK_WORD}){{0,3}}[ \t]+({_WAY}|St|Ave|Rd|Blvd|Ln|Dr)",
)
