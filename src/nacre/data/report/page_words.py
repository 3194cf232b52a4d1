"""What the page of a report says beside its numbers, in English and in Chinese."""

from nacre.data.report.records import Said

WORDS = {
    "title": Said(en="Data report", zh="数据报告"),
    "rows": Said(en="rows", zh="行"),
    "dropped": Said(en="rows cannot be used", zh="行无法使用"),
    "as of": Said(en="as of", zh="截至"),
    "against": Said(en="compared with", zh="对比对象："),
    "alone": Said(en="compared with nothing", zh="没有对比数据"),
    "all well": Said(en="Nothing is out of bounds.", zh="所有指标都在范围之内。"),
    "advice": Said(en="What to do", zh="处理建议"),
    "wanted": Said(en="wanted:", zh="目标："),
    "ok": Said(en="in bounds", zh="正常"),
    "flag": Said(en="look here", zh="需处理"),
    "note": Said(en="worth knowing", zh="提示"),
    "unknown": Said(en="not measured", zh="未测量"),
    "notes": Said(en="Notes", zh="说明"),
    "measures": Said(en="The measures", zh="各项指标"),
    "by": Said(en="Classes by", zh="类别依据："),
    "answer": Said(en="short answers that come back", zh="重复出现的短答案"),
    "judgement": Said(en="judgement", zh="评判"),
    "more classes": Said(en="more classes in between", zh="个其余类别未列出"),
    "outside classes": Said(en="rows in no class", zh="行不属于任何类别"),
    "no classes": Said(
        en="No classes were found: the answers are free text. A column can be named with --label.",
        zh="没有发现类别：答案是自由文本。可用 --label 指定类别列。",
    ),
    "domains": Said(en="Rows that speak of each domain of the list.", zh="列表中每个领域对应的行数。"),
    "clusters": Said(
        en="Fields of the earlier data (clusters, named by their words), and the sampled new rows in them.",
        zh="早期数据的领域（聚类，以其用词命名），以及落入其中的新数据抽样行数。",
    ),
    "outside fields": Said(en="of the rows looked at are in none of them.", zh="的受检行不在其中任何一个。"),
    "no coverage": Said(
        en="It needs a list of domains (--domains) or earlier rows (--against).",
        zh="需要领域列表（--domains）或早期数据（--against）。",
    ),
    "distinct prompts": Said(en="distinct prompts", zh="不重复的问题"),
    "distinct": Said(
        en="Distinct-1 and -2: different words, and pairs of words, of all in the first 20,000 tokens of a sample.",
        zh="Distinct-1/2：抽样的前 20,000 个词中，不同的词（词对）所占比例。",
    ),
    "prompts": Said(en="Prompts", zh="问题"),
    "answers": Said(en="Answers", zh="答案"),
    "similarity": Said(en="likeness to the nearest other row", zh="与最相近一行的相似度"),
    "since": Said(en="Coloured: the last three years, since", zh="着色部分：最近三年，自"),
    "undated": Said(en="rows without a date", zh="行没有日期"),
    "years": Said(en="Dated rows by year", zh="按年份统计"),
    "no dates": Said(
        en="No row has a date, in a column or in its text.", zh="没有任何一行在列中或文本中带有日期。"
    ),
    "these": Said(en="These rows", zh="本次数据"),
    "earlier": Said(en="Earlier rows", zh="早期数据"),
    "length": Said(en="Rows by length; each column reaches to twice the length.", zh="按长度统计；每一列的上限是前一列的两倍。"),
    "mean": Said(en="mean", zh="平均"),
    "median": Said(en="median", zh="中位数"),
    "p95": Said(en="95 % below", zh="95% 低于"),
    "max": Said(en="longest", zh="最长"),
    "equal within": Said(en="equal to another row", zh="与另一行完全相同"),
    "near within": Said(en="like another row", zh="与另一行近似"),
    "equal across": Said(en="equal to a row of", zh="与该数据中某行相同："),
    "near across": Said(en="like an earlier row", zh="与某一早期行近似"),
    "no private": Said(en="None was found.", zh="未发现。"),
    "private": Said(
        en="Rows that hold each kind. What was found is not in this report. Hatched: told by context, look at some.",
        zh="含每一类信息的行数；报告不含原文。斜线：按上下文判断，请抽查。",
    ),
    "auc": Said(
        en="How well a classifier tells new rows from earlier ones: 0.5 not at all, 1 always.",
        zh="分类器区分新旧数据的能力：0.5 完全不能，1 总能区分。",
    ),
    "js": Said(en="Jensen-Shannon divergence of the words:", zh="用词的 Jensen-Shannon 散度："),
    "by chance": Said(en="bits; chance alone:", zh="比特；纯属偶然："),
    "new terms": Said(en="Words of the new rows", zh="新数据的特征词"),
    "earlier terms": Said(en="Words of the earlier rows", zh="早期数据的特征词"),
    "no drift": Said(
        en="It needs earlier rows, and at least 30 distinct ones on either side.", zh="需要早期数据，且双方至少各有 30 个不同的行。"
    ),
}

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
