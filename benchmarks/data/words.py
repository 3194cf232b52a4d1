"""Sentences for the benchmark's file, English and Chinese, made of parts; none of them is anybody's text."""

import random

_WHO = (
    "The engineer", "A careful reader", "The museum", "Our neighbour", "The committee", "A young chemist", "The bakery",
    "The ferry company", "A retired teacher", "The library", "The gardener", "A small team", "The orchestra",
    "The village school", "A travelling merchant", "The weather service", "The repair shop", "An old sailor",
    "The city council", "A patient nurse", "The film club", "The astronomer", "A local farmer", "The editor",
)  # fmt: skip
_DID = (
    "compared", "described", "repaired", "measured", "collected", "questioned", "improved", "painted", "sorted",
    "explained", "borrowed", "published", "tested", "replaced", "translated", "photographed", "catalogued", "cleaned",
    "simplified", "defended", "recorded", "predicted", "planned", "abandoned",
)  # fmt: skip
_WHAT = (
    "the wooden bridge", "three kinds of bread", "an unusual recipe", "the oldest map",
    "a set of brass instruments",
    "the results of the survey", "the winter timetable", "several rare orchids", "the broken telescope",
    "a short novel", "the drainage system", "the history of the harbour", "a collection of letters",
    "the new grammar", "two solar panels",
    "the irrigation channel", "a proof by induction", "the migration of swallows",
    "the rules of the game",
    "a thin layer of paint",
    "the causes of the delay", "the budget for lighting", "a model of the river", "the question of fairness",
)  # fmt: skip
_HOW = (
    "with great patience", "before the first frost", "in a noisy workshop", "without any help", "over many evenings",
    "as the rain grew heavier", "despite the cost", "using simple tools", "for the second time", "with a smile",
    "at the edge of the forest", "by counting every item", "while others watched", "in less than an hour",
    "to everybody's surprise",
    "from a small boat", "with borrowed money", "in four languages", "because nobody else would",
    "after a long discussion",
)  # fmt: skip
_THEN = (
    "and the reasons became clear later", "which changed how people saw it", "so the plan had to be rewritten",
    "and wrote down what happened", "although the first attempt failed", "until the work was finished",
    "and shared the outcome with everyone", "which saved a good deal of effort", "so that visitors could understand it",
    "and asked two friends to check it", "but the details remain uncertain", "while keeping the original parts",
)  # fmt: skip
_ASKS = (
    "Explain why {}.", "Write a short paragraph in which {}.", "Summarise the story: {}.", "What follows if {}?",
    "Give three consequences of the fact that {}.", "Turn this into a headline: {}.", "Continue the text: {}.",
)  # fmt: skip
_ZH_WHO = (
    "工程师",
    "读者",
    "博物馆",
    "邻居",
    "委员会",
    "化学家",
    "面包店",
    "轮渡公司",
    "退休教师",
    "图书馆",
    "园丁",
    "小团队",
    "乐团",
    "乡村学校",
    "商人",
    "气象站",
    "修理店",
    "老水手",
    "议会",
    "护士",
    "电影社",
    "天文学家",
    "农民",
    "编辑",
)
_ZH_DID = (
    "比较了",
    "描述了",
    "修好了",
    "测量了",
    "收集了",
    "质疑了",
    "改进了",
    "粉刷了",
    "整理了",
    "解释了",
    "借来了",
    "发表了",
    "测试了",
    "更换了",
    "翻译了",
    "拍摄了",
    "登记了",
    "清洗了",
    "简化了",
    "记录了",
    "预测了",
    "规划了",
)
_ZH_WHAT = (
    "那座木桥",
    "三种面包",
    "一份少见的菜谱",
    "最早的地图",
    "一套铜管乐器",
    "调查的结果",
    "冬季时刻表",
    "几株稀有的兰花",
    "坏掉的望远镜",
    "一部短篇小说",
    "排水系统",
    "港口的历史",
    "一批信件",
    "新的语法",
    "两块太阳能板",
    "灌溉水渠",
    "一个归纳证明",
    "燕子的迁徙",
    "游戏的规则",
    "拖延的原因",
    "照明的预算",
    "河流的模型",
)
_ZH_HOW = (
    "非常耐心地",
    "在初霜之前",
    "在嘈杂的车间里",
    "没有任何帮助",
    "花了许多个晚上",
    "在雨越下越大的时候",
    "不顾费用",
    "用简单的工具",
    "第二次",
    "带着微笑",
    "在森林边上",
    "一件一件数过之后",
    "在大家的注视下",
    "不到一小时",
    "出人意料地",
    "在一条小船上",
    "用四种语言",
    "经过长时间的讨论",
)
_ZH_THEN = (
    "原因后来才清楚",
    "这改变了人们的看法",
    "计划因此要重写",
    "并且写下了经过",
    "尽管第一次失败了",
    "直到工作完成",
    "还把结果告诉了每一个人",
    "这省下不少力气",
    "好让参观者能看懂",
    "又请两位朋友检查",
    "不过细节仍不确定",
    "同时保留了原来的部件",
)
_ZH_ASKS = (
    "请解释为什么{}。",
    "写一段话，说明{}。",
    "概括这个故事：{}。",
    "如果{}，会怎样？",
    "把这句话改成标题：{}。",
)


def sentences(draw: random.Random, *, chinese: bool) -> str:
    """One sentence without its full stop."""
    if chinese:
        parts = (_ZH_WHO, _ZH_HOW, _ZH_DID, _ZH_WHAT)
        return "".join(draw.choice(part) for part in parts) + "，" + draw.choice(_ZH_THEN)
    parts = (_WHO, _DID, _WHAT, _HOW)
    return " ".join(draw.choice(part) for part in parts) + ", " + draw.choice(_THEN)


def question(draw: random.Random, sentence: str, *, chinese: bool) -> str:
    """A task about the sentence."""
    if chinese:
        return draw.choice(_ZH_ASKS).format(sentence)
    return draw.choice(_ASKS).format(sentence[0].lower() + sentence[1:])
