"""What the page of the accuracy matrix says, in English and in Chinese."""

import re
from collections.abc import Mapping
from typing import Literal

WORDS: Mapping[str, Mapping[Literal["en", "zh"], str]] = {
    "title": {"en": "Accuracy matrix", "zh": "准确率矩阵"},
    "version": {"en": "version", "zh": "版本"},
    "legend": {
        "en": "Outlined: the version that learned the task. Grey: a task the version was not taught. Dash: not scored.",
        "zh": "带框：学会该任务的版本。灰色：该版本没有学过的任务。横线：未评分。",
    },
    "figures": {"en": "Figures and their formulas", "zh": "指标及其公式"},
    "symbols": {
        "en": "a[i][j]: mean score of version i on task j. L: the last version. l_j: the version that learned task j.",
        "zh": "a[i][j]：版本 i 在任务 j 上的平均得分；L：最新的版本；l_j：学会任务 j 的版本。",
    },
    "unknown": {"en": "not known:", "zh": "未知："},
    "general": {"en": "General ability", "zh": "通用能力"},
    "brackets": {"en": "Between plain and joint training", "zh": "介于顺序微调与联合训练之间"},
    "by version": {"en": "Read off the line that led to each version", "zh": "沿每个版本的来历读出的指标"},
    "notes": {"en": "Notes", "zh": "说明"},
    "name": {"en": "name", "zh": "名称"},
    "measure": {"en": "measure", "zh": "度量"},
    "base": {"en": "base model", "zh": "基座模型"},
    "this version": {"en": "this version", "zh": "此版本"},
    "score": {"en": "score", "zh": "得分"},
    "perplexity": {"en": "perplexity", "zh": "困惑度"},
    "joint": {"en": "joint", "zh": "联合训练"},
    "plain": {"en": "plain", "zh": "无保护的顺序微调"},
}

FIGURES_ZH: Mapping[str, tuple[str, str]] = {
    "average accuracy": ("平均准确率", "对所有任务 j 取 a[L][j] 的平均"),
    "BWT": ("反向迁移 BWT", "对 L 之前学会的任务 j 取 a[L][j] - a[l_j][j] 的平均"),
    "BWT (TRACE)": (
        "反向迁移 BWT（TRACE）",
        "对所有任务 j 取 a[L][j] - a[l_j][j] 的平均：最后学的任务也计入，其值为 0",
    ),
    "forgetting": ("遗忘", "对 L 之前学会的任务 j 取（i 从 l_j 到 L-1 时 a[i][j] 的最大值）- a[L][j] 的平均"),
    "learning accuracy": ("学习准确率", "对所有任务 j 取 a[l_j][j] 的平均"),
    "FWT": ("前向迁移 FWT", "对不是最先学会的任务 j 取 a[l_j - 1][j] - base[j] 的平均"),
    "general delta": ("通用能力变化", "对通用任务 k 取 g[L][k] - g[base][k] 的平均"),
    "general perplexity ratio": ("通用文本困惑度之比", "对通用文本 k 取 ppl[L][k] / ppl[base][k] 的几何平均"),
    "gap to joint": ("与联合训练的差距", "对所有任务 j 取 joint[j] - a[L][j] 的平均"),
    "gap closed": (
        "弥合的差距",
        "(a[L][j] 的平均 - plain[j] 的平均) / (joint[j] 的平均 - plain[j] 的平均)，对所有任务 j",
    ),
}

_REASONS_ZH = (
    (r"it needs one task learned before another", "需要至少有一个任务先于另一个任务学会"),
    (r"no joint version is known", "没有已知的联合训练版本"),
    (r"no plain version is known", "没有已知的无保护版本"),
    (r"evaluate\.general names no general tasks", "evaluate.general 没有列出通用任务"),
    (r"evaluate\.general names no general texts", "evaluate.general 没有列出通用文本"),
    (r"joint ([\d.]+) is no better than plain ([\d.]+)", r"联合训练 \1 不优于无保护的顺序微调 \2"),
    (r"not scored: ", "未评分："),
    (r"the (joint|plain) version on ", r"\1 版本："),
    (r"base model", "基座模型"),
    (r" on ", " / "),
)


def reason_zh(reason: str) -> str:
    """Why a figure is not known, in Chinese; names stay as they are."""
    for pattern, words in _REASONS_ZH:
        reason = re.sub(pattern, words, reason)
    return reason
