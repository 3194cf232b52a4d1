"""The text the demo's base model is pretrained on: short English and Chinese stories made from word lists.

It holds the words of the demo's skills in other sentences. It never holds a skill: none of their questions, and
no question with its answer.
"""

from random import Random

from nacre.demo import words_en as en
from nacre.demo import words_zh as zh
from nacre.demo.skills import judgements


def documents(count: int, seed: int = 0) -> list[str]:
    """`count` stories of a few sentences, every second one Chinese. The same seed gives the same text."""
    rng = Random(f"corpus:{seed}")
    english = (_diary, _diary, _newspaper, _newspaper, _family, _facts_en)
    chinese = (_hospital, _hospital, _year, _year, _school, _facts_zh)
    return [rng.choice(chinese if place % 2 else english)(rng) for place in range(count)]


def _sentences(*clauses: str) -> str:
    return " ".join(f"{clause[0].upper()}{clause[1:]}." for clause in clauses)


def _diary(rng: Random) -> str:
    pleased = rng.random() < 0.5
    mood = "good" if pleased else "bad"
    afterwards = rng.sample(en.PLEASED if pleased else en.DISAPPOINTED, 2)
    trip = f"{rng.choice(en.OPENERS)} {rng.choice(en.PEOPLE)} and I went to {rng.choice(en.PLACES)}"
    middle = judgements(rng, pleased, rng.randint(2, 4)) + rng.sample(en.NEUTRAL, rng.randint(0, 1))
    rng.shuffle(middle)
    ending = rng.choice(
        (f"it was a {mood} {rng.choice(['day', 'evening', 'journey', 'visit'])}", f'I wrote "{mood}" in my diary')
    )
    return _sentences(trip, *middle, *afterwards[: rng.randint(1, 2)], ending)


def _newspaper(rng: Random) -> str:
    page = rng.choice(list(en.NEWS))
    people, deeds = en.NEWS[page]
    clauses = [f"my {rng.choice(en.FAMILY)} reads the {rng.choice(en.PLACES)} news every {rng.choice(en.DAYS)}"]
    for who, does in zip(rng.sample(people, 3), rng.sample(deeds, 3), strict=True):
        clauses.append(
            rng.choice(
                (
                    f"the {who} {does} {rng.choice(en.NEWS_TAILS)}",
                    f"a {who} from {rng.choice(en.PLACES)} {does}",
                    f"the {who} {rng.choice(en.ANYTHING)}",
                    f"a {rng.choice(en.ANYBODY)} {does} in {rng.choice(en.PLACES)}",
                )
            )
        )
    clauses.append(
        rng.choice((f'they print it under "{page}"', f'the page is called "{page}"', f"that was all about {page}"))
    )
    if rng.random() < 0.3:
        clauses[0] = f"there is news about {page}"
    return _sentences(*clauses)


def _family(rng: Random) -> str:
    one, other = rng.sample(en.PEOPLE, 2)
    kin, thing = rng.choice(en.FAMILY), rng.choice(rng.choice([things for things, _, _ in en.JUDGED.values()]))
    clauses = [
        f"{one} lives in {rng.choice(en.PLACES)} with a {rng.choice(list(en.ANIMALS))}",
        f"the {kin} of {one} has {rng.choice(en.NUMBERS)} children and a {rng.choice(en.COLOURS)} door",
        f"{rng.choice(en.OPENERS)} {one} met {other} near the {thing} shop",
        f"they talked about the {thing} and {rng.choice(en.NEUTRAL)}",
        f"{other} asked for help and {one} said yes",
        f"{one} wrote {rng.choice(en.NUMBERS)} letters to the {kin} on {rng.choice(en.DAYS)}",
    ]
    return _sentences(clauses[0], *rng.sample(clauses[1:], rng.randint(2, 4)))


def _facts_en(rng: Random) -> str:
    animal, other = rng.sample(list(en.ANIMALS), 2)
    animals = [f"a {animal} {en.ANIMALS[animal]}", f"a {other} {en.ANIMALS[other]}"]
    clauses = animals[: rng.randint(1, 2)] + rng.sample(en.FACTS, rng.randint(2, 4))
    rng.shuffle(clauses)
    return _sentences(*clauses)


def _hospital(rng: Random) -> str:
    ward = rng.choice([*zh.COMPLAINTS, "口腔科"])
    signs = zh.COMPLAINTS.get(ward, zh.TOOTHACHE)
    first, second = rng.sample(signs, 2)
    who = rng.choice(zh.PEOPLE + zh.RELATIVES)
    visit = rng.choice(
        (
            f"家人陪着去了医院的{ward}。",
            f"病历上写着：“{ward}”。",
            f"{ward}的医生看得很仔细。",
        )
    )
    clauses = [f"{who}{rng.choice(zh.SINCE)}{first}，{rng.choice(zh.BESIDES)}。", f"{who}还说{second}。", visit]
    if rng.random() < 0.5:
        clauses.append(f"医生开了{rng.choice(zh.NUMBERS)}盒药，{who}就回家了。")
    return "".join(clauses)


def _year(rng: Random) -> str:
    season = rng.choice(list(zh.SIGNS))
    signs = rng.sample(zh.SIGNS[season], rng.randint(2, 4))
    clauses = [
        rng.choice((f"{season}来了，{signs[0]}。", f"{rng.choice(zh.PLACES)}{signs[0]}，{season}到了。")),
        f"{rng.choice(zh.HOURS)}，{rng.choice(zh.PEOPLE)}来到{rng.choice(zh.PLACES)}，{rng.choice(zh.AROUND)}。",
        *(f"{rng.choice(zh.PLACES)}{sign}，{rng.choice(zh.AROUND)}。" for sign in signs[1:]),
    ]
    clauses.append(
        rng.choice((f"这就是{season}。", f"{rng.choice(zh.PEOPLE)}最喜欢{season}。", f"日历上写着：“{season}”。"))
    )
    return "".join(clauses)


def _school(rng: Random) -> str:
    one, other = rng.sample(zh.PEOPLE, 2)
    clauses = [
        f"{rng.choice(zh.HOURS)}{one}在{rng.choice(zh.PLACES)}等{other}。",
        f"{one}有{rng.choice(zh.NUMBERS)}本书，封面是{rng.choice(zh.COLOURS)}的。",
        f"{other}喜欢{rng.choice(zh.COLOURS)}的衣服，{rng.choice(zh.AROUND)}。",
        f"他们一起写作业，{rng.choice(zh.SINCE)}还一起看了书。",
        f"{one}家里有{rng.choice(zh.NUMBERS)}口人，{rng.choice(zh.AROUND)}。",
        f"{other}说：“{rng.choice(zh.HOURS)}我们再去{rng.choice(zh.PLACES)}吧。”",
    ]
    return "".join(rng.sample(clauses, rng.randint(3, 5)))


def _facts_zh(rng: Random) -> str:
    return "".join(f"{fact}。" for fact in rng.sample(zh.FACTS, rng.randint(3, 5)))
