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
# words that begin like a name
_NO_NAMES = (
    "谢谢|许多|高中|高级|高校|高年|高血|高烧|高热|高糖|高危|王牌|任何|任课|任教|任意|段时|管理|管家|金牌|金额|金融|安全|安排"
    "|常务|方面|方案|方式|方便|康复|温度|温馨|石油|于是|万一|关系|马上|向来|明天|钱包|时间|时候"
)
# characters that end a sentence's subject rather than a given name
_NO_GIVEN = (
    "的是在和与或也都就要会能可已曾今现来去到从向对为被把让给有没不很太最我你他她它们这那哪什么"
    "吗呢吧啊了着过年日岁先男女老医教经律同"
)
_GIVEN = rf"[^\W\da-zA-Z_{_NO_GIVEN}小大月]"
_FIRST_GIVEN = rf"(?:{_GIVEN}|[大月]|小(?!姐))"
_CHINESE_LEADS = ("我叫", "名叫", "姓名", "名字是", "名字叫", "户名", "签名", "法定代表人")
# what a person is; without a mark between, most of what follows is no name
_CHINESE_ROLES = ("联系人", "患者", "病人", "收件人", "寄件人", "经办人", "持卡人", "申请人", "客户")
_CHINESE_ADDRESSES = ("先生", "女士", "小姐", "太太")
_CHINESE_TITLES = (*_CHINESE_ADDRESSES, "同学", "老师", "医生", "教授", "经理", "律师")
# "I am …" says what a person is called, or what one is: words of two or three characters that begin like a name, and
# characters that end what one is
_NOT_CALLED = (
    "程[序度]|高[速贵尚端清效度兴等层知原铁手管冷一二三考富配]|石[榴头膏狮]|雷[达电]|熊[猫孩大]|万[能事金恶全]|任[性何务选]|严[肃重格禁]|安[装静全卓]"
    "|管道|焦虑|梅花|盛[夏大开]|孔雀|黄[金色昏鼠焖]|白[领色天痴羊酒糖纸兔骨富雪日金给嫖]|牛[奶肉仔排魔]|马[来尾戏拉桶达路车匹大甲虎夫]|江[南湖浙郎]|温[和柔暖水]|苏联"
    "|武[术器]|金[毛色鱼星属龟刚针主]|龙[虾头卷井王套凤]|毛[绒巾衣病毛]|夏[天季装]|余[下生额粮]|陶瓷|丁克|史[前上诗莱]|段[子落]|叶[子酸公]|向[导日]|顾[问虑]|范[围例本]"
    "|柴[油犬米]|许可|李[子树]|杨[树梅柳]|朱[红门]|林[地中]|高山|庄[严稼]|章[鱼节程]|齐[全声刷]|田[野园径鼠]|孙[子女]|胡[说乱椒扯]|林业|陈[述旧列皮]|周[末期围边一二三四五六日]|张[开贴力]|汪洋|颜[色值]|施[工主暴]"
    "|莫[名大非]|付[出费钱款]|方[形块法向程言圆丈舟]|韩[语式剧]|曾[经孙祖]|杜绝|钟[表情楼]|陆[地军续上]|罗[马汉盘]|何[时处种等许]|汤圆|谢[礼幕]|唐[诗僧]|宋[词体]|贺[卡礼]|肖像|康师"
)
_NO_CALLED_END = "人员生师者家客手工长座族民派粉迷党班级届型州市县省镇村区系科店厂方面业司士兵警友属控的了么"
_SMALL = "[a-zà-öø-ÿā-ſ]+"
_LATIN = rf"(?:[A-Z]['’])?[A-Z]{_SMALL}(?:[A-Z]{_SMALL})?(?:[-'’][A-Z]{_SMALL})?"
NAME_MARKS = (
    "我是(" + "|".join((*_SURNAMES.partition("[")[0].split("|")[:-1], *_SURNAMES.partition("[")[2][:-1])) + ")",
    "I('|’| |\t)a?m[ \\t]+[A-Z]",
    any_of((*_CHINESE_LEADS, *_CHINESE_ROLES, *_CHINESE_TITLES)),
    "([Nn]ame is|[Nn]ames?:|Contact( [Pp]erson)?:|Patient:|Customer:|[Ss]igned by|Recipient:)[ \\t]+[A-Z]",
    "(Mr|Mrs|Ms|Miss|Dr|Prof)[.]?[ \\t]+[A-Z]",
)

_LATIN_NAME = rf"(?P<it>(?!(?:Mr|Mrs|Ms|Miss|Dr|Prof)\b){_LATIN}(?:[ \t]+[A-Z]\.)?(?:[ \t]+{_LATIN}){{0,2}})"
_FULL_LATIN_NAME = rf"(?P<it>(?!(?:Mr|Mrs|Ms|Miss|Dr|Prof)\b){_LATIN}(?:[ \t]+[A-Z]\.)?(?:[ \t]+{_LATIN}){{1,2}})"
_LATIN_LEAD = r"\b(?:[Mm]y (?:full |first |last )?name is|(?:[Ff]ull |[Ff]irst |[Ll]ast )name:|Names?:)"
_LATIN_ROLE = r"\b(?:Contact(?: [Pp]erson)?:|Patient:|Customer:|[Ss]igned by|Recipient:)"
# what follows on "I am" in capitals and is no name: titles of films and songs, where one is from, how one is
_NO_LATIN_SELF = (
    r"(?:[A-Z][a-z]+ing|Not|So+|Very|Too|Still|Just|Here|Sorry|Really|Always|Never|Also|On|In|At|Of|From|The|An?|Your|My|Your?s"
    r"|Well|Good|Happy|Sure|All|Only|Almost|Over|Out|Off|Born|Glad|Pretty|Quite|Already|Now|Back|Yours|Legend|Number"
    r"|Iron|Super|Miss|New|North|South|East|West|Saint|Big|Little|Old|Young|Proud|Half|Part|No|One|Every|Mr|Mrs|Ms|Dr|Prof"
    r"|[A-Z][a-z]*(?:erican|sian|frican|ndian|inese|anese|ritish|rench|erman|panish|talian|ussian|nglish|ewish"
    r"|hristian|uslim|atholic|exican|anadian|orean|ustralian|uropean|ersian|urkish|olish|utch|rish|cottish))\b"
)
_LATIN_SELF = rf"(?<![A-Za-z])I(?:['’]m|[ \t]am)[ \t]+(?!(?:{_LATIN}[ \t]+){{0,2}}{_NO_LATIN_SELF})"
_AFTER_SELF = (
    r"(?=[ \t]*(?:[.,;:!?)(\n\"”—–]|$)|[ \t]+(?:and|from|with|at|of|your|the|an?|calling|writing|speaking|here)\b)"
)
_LATIN_TITLE = (
    r"\b(?:(?:Mr|Mrs|Ms|Dr|Prof)\.?|(?<!to )(?<!May )(?<!Will )(?<!Could )Miss(?! (?:America|Universe|World)))"
)
_CHINESE_NAME = rf"(?!{_NO_NAMES})(?:{_SURNAMES}){_FIRST_GIVEN}{_GIVEN}?"
_PART = r"(?:(?![的是在和与])[\u4e00-\u9fff]){1,6}"
_JOINED_NAME = rf"{_PART}(?:[·•・]{_PART})+"  # of other languages, in Chinese characters
_SEPARATOR = r"(?:\s*[:：]\s*|是|叫|为|[ \t]+)"
# what may follow on a name that no mark introduces
_AFTER_NAME = "(?=[^\u4e00-\u9fff]|$|电话|手机|身份|先生|女士|主诉|[男女因于今昨现自来已在就经入出])"
# where a name with a title may begin: no character before it, or one that leads up to a person
_BEFORE_NAME = r"(?:(?<![\u4e00-\u9fff0-9])|(?<=[给找跟和与同问请叫让见到是对]))"
# a surname alone before a title: not where it is a word (towards, of, to hold an office) or the end of one
_NO_SURNAME = "向|管|于(?:老师|同学|医生)(?:而言|来说)|任(?:教授|经理|律师)|曾经理|付律师"
_SURNAMES_ONLY = rf"(?!{_NO_SURNAME})(?:{_SURNAMES})"
_TITLED = rf"{_BEFORE_NAME}(?P<it>(?!(?<=对)[方于付]){_SURNAMES_ONLY})"
_AFTER_TITLE = "(?!们|费|函|团|证|事务|资格|职业)"

NAMES = (
    Pattern(
        "NAME",
        re.compile(
            rf"(?:(?:{'|'.join(_CHINESE_LEADS)}){_SEPARATOR}?|(?:{'|'.join(_CHINESE_ROLES)}){_SEPARATOR})"
            rf"(?P<it>{_JOINED_NAME}|{_CHINESE_NAME})"
        ),
    ),
    Pattern("NAME", re.compile(rf"(?:{'|'.join(_CHINESE_ROLES)})(?P<it>{_CHINESE_NAME}){_AFTER_NAME}")),
    Pattern(
        "NAME",
        re.compile(rf"{_BEFORE_NAME}(?P<it>{_CHINESE_NAME})(?={'|'.join(_CHINESE_TITLES)})"),
    ),
    Pattern("NAME", re.compile(rf"{_TITLED}(?=(?:{'|'.join(_CHINESE_TITLES)}){_AFTER_TITLE})")),
    Pattern(
        "NAME",
        re.compile(
            rf"(?<=[的位民主户者客友系])(?P<it>(?!任){_SURNAMES_ONLY})(?=(?:{'|'.join(_CHINESE_ADDRESSES)}){_AFTER_TITLE})"
        ),
    ),
    Pattern(
        "NAME", re.compile(rf"我是(?!{_NOT_CALLED})(?P<it>{_CHINESE_NAME})(?<![{_NO_CALLED_END}])(?![\u4e00-\u9fff])")
    ),
    Pattern("NAME", re.compile(rf"{_LATIN_LEAD}[ \t]+(?:(?:Mr|Mrs|Ms|Miss|Dr|Prof)\b\.?[ \t]+)?{_LATIN_NAME}")),
    Pattern("NAME", re.compile(rf"{_LATIN_SELF}{_FULL_LATIN_NAME}{_AFTER_SELF}")),
    Pattern("NAME", re.compile(rf"{_LATIN_ROLE}[ \t]+{_FULL_LATIN_NAME}")),
    Pattern("NAME", re.compile(rf"{_LATIN_TITLE}[ \t]+{_LATIN_NAME}")),
)

_UNIT = r"(?:[ \t]*,?[ \t]*(?:Apt|Apartment|Suite|Unit|Floor|#)\.?[ \t]*#?[0-9A-Za-z\-]{1,6})?"
_TOWN = rf"(?:,[ \t]*{_LATIN}(?:[ \t]{_LATIN})?)?(?:,[ \t]*[A-Z]{{2}}\b)?(?:[ \t]+[0-9]{{5}}(?:-[0-9]{{4}})?)?"
_WAY = "Street|Avenue|Road|Boulevard|Lane|Drive|Court|Place|Square|Terrace|Highway|Parkway"
_MONTHS = r"(?:Jan|Febr)uary\b|March\b|April\b|May\b|June\b|July\b|August\b|(?:Septem|Octo|Novem|Decem)ber\b"
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
            rf"(?<![0-9A-Za-z_.,$-])[0-9]{{1,5}}[A-Za-z]?[ \t]+(?!{_MONTHS}){_WAY_NAME}"
            rf"[ \t]+(?:{_WAY}|(?:St|Ave|Rd|Blvd|Ln|Dr)\b\.?)(?:[ \t]+(?:[NS][EW]?|[EW])\b\.?)?{_UNIT}{_TOWN}"
        ),
    ),
    Pattern("ADDRESS", re.compile(rf"\bP\.?[ \t]?O\.?[ \t]?Box[ \t]+[0-9]{{1,6}}{_TOWN}")),
    Pattern("ADDRESS", re.compile(rf"{_REGION}{_WAY_CHINESE}\s?[0-9]{{1,5}}(?:-[0-9]{{1,4}})?\s?[号弄](?!线){_DOOR}")),
    Pattern("ADDRESS", re.compile(rf"{_REGION}{_HAN}{{1,10}}[0-9]{{1,4}}(?:号楼|栋|幢|座){_DOOR}[0-9]{{2,5}}[室号]")),
    Pattern(
        "ADDRESS", re.compile(rf"{_REGION}{_HAN}{{1,6}}[村屯庄](?:[0-9]{{1,3}}[组队])?[0-9]{{1,4}}号(?!线){_DOOR}")
    ),
)
_MARK_WORD = r"[A-Z0-9][A-Za-z0-9.'\x80-\xff-]*"
ADDRESS_MARKS = (
    "(路|街|大道|巷|弄|胡同|道)([0-9]|一|二|三|四|五|六|七|八|九|十|段|弄|巷){0,4}"
    "[\\s\\x80-\\xff]{0,3}[0-9]{1,5}(-[0-9]{1,4})?[\\s\\x80-\\xff]{0,3}(号|弄)",
    "[0-9](号楼|栋|幢|座)[^\\n]{0,100}[0-9]{2}(室|号)",
    "(村|屯|庄)([0-9]{1,3}(组|队))?[0-9]{1,4}号",
    "P[.]?[ \\t]?O[.]?[ \\t]?Box[ \\t]+[0-9]",
    rf"[0-9][A-Za-z]?[ \t]+{_MARK_WORD}([ \t]+{_MARK_WORD}){{0,3}}[ \t]+({_WAY}|St|Ave|Rd|Blvd|Ln|Dr)",
)
# each pattern with the marks of which every text that it matches shows one
ADDRESS_PARTS = tuple(
    ((ADDRESS_MARKS[mark],), (pattern,)) for mark, pattern in zip((4, 3, 0, 1, 2), ADDRESSES, strict=True)
)
NAME_PARTS = (
    ((NAME_MARKS[2],), NAMES[:5]),
    ((NAME_MARKS[0],), NAMES[5:6]),
    ((NAME_MARKS[3],), NAMES[6:7]),
    ((NAME_MARKS[1],), NAMES[7:8]),
    ((NAME_MARKS[3],), NAMES[8:9]),
    ((NAME_MARKS[4],), NAMES[9:]),
)
