"""How the page looks: one sheet, for wide and narrow screens, light and dark."""

STYLE = """
:root { color-scheme: light dark; --ink: #1d2327; --paper: #fff; --soft: #565c62; --faint: #73797f; --line: #dfe2e5;
  --card: #f7f8f9; --fill: #3b74b9; --pale: #c3cad1; --track: #e8ebee; --ok: #1f7a4d; --bad: #b3401f;
  --bad-card: #fdf3ee; --bad-line: #efc9b8; --zh: #1f8a86; --mixed: #8a6fb3; --other: #6f8f54; --none: #a9afb5 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ea; --paper: #14171a; --soft: #a9afb5; --faint: #8c9298; --line: #343a40; --card: #1c2024;
    --fill: #6ea3de; --pale: #4c545c; --track: #2a3036; --ok: #6fc49a; --bad: #f0906c; --bad-card: #2a1d18;
    --bad-line: #5c3526; --zh: #58bdb8; --mixed: #b39bd8; --other: #9dbd80; --none: #6b7279 }
}
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif; color: var(--ink);
  background: var(--paper); margin: 0 auto; padding: 1.6rem clamp(1rem, 4vw, 3rem) 3rem; max-width: 76rem }
h1 { font-size: 1.55rem; margin: 0; line-height: 1.25; overflow-wrap: anywhere }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .7rem }
h3 { font-size: 1.05rem; margin: 0 }
a { color: inherit }
header { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; align-items: flex-start; justify-content: space-between }
.target { overflow-wrap: anywhere; margin: .25rem 0 0; color: var(--soft) }
.switch { display: inline-flex; border: 1px solid var(--line); border-radius: 6px; overflow: hidden }
.switch label { padding: .3rem .8rem; cursor: pointer; color: var(--soft); position: relative }
.switch input { position: absolute; opacity: 0 }
.switch label:has(:checked) { background: var(--ink); color: var(--paper) }
.switch label:has(:focus-visible) { outline: 2px solid var(--fill); outline-offset: -2px }
html:has(#lang-en:checked) [lang=zh], html:has(#lang-zh:checked) [lang=en] { display: none }
.overview { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(21rem, 100%), 1fr)); gap: .6rem;
  margin: 1.4rem 0 0; padding: 0; list-style: none }
.overview a { display: grid; grid-template-columns: 1fr auto; gap: 0 .8rem; align-content: start;
  height: 100%; padding: .65rem .9rem; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  text-decoration: none }
.overview a:hover { border-color: var(--fill) }
.overview a.flag { background: var(--bad-card); border-color: var(--bad-line) }
.overview b { font-weight: 600 }
.overview .value { grid-column: 1 / -1; font-variant-numeric: tabular-nums; overflow-wrap: anywhere }
.overview .wanted { grid-column: 1 / -1; color: var(--soft); font-size: .86rem }
.state { font-size: .84rem; color: var(--faint); white-space: nowrap }
.state.ok { color: var(--ok) }
.state.flag { color: var(--bad); font-weight: 600 }
.advice { padding: 0; margin: 0; list-style: none; display: grid; gap: .6rem }
.advice li { border-left: 4px solid var(--pale); padding: .15rem 0 .15rem .9rem }
.advice li.flag { border-color: var(--bad) }
.advice b { margin-right: .4rem }
.advice p { margin: .1rem 0 0; color: var(--soft) }
.sections { columns: 2 27rem; column-gap: 1rem }
section { border: 1px solid var(--line); border-radius: 10px; padding: 1rem 1.1rem 1.1rem; margin: 0 0 1rem;
  break-inside: avoid; scroll-margin-top: 1rem }
section.flag { border-color: var(--bad-line) }
section > .head { display: flex; justify-content: space-between; align-items: baseline; gap: 1rem; margin: 0 0 .6rem }
section p { margin: .6rem 0 0; color: var(--soft); font-size: .92rem }
section .head + p { margin-top: 0 }
.bars { display: grid; grid-template-columns: minmax(5rem, max-content) 1fr auto; gap: .42rem .8rem;
  align-items: center; margin: .7rem 0 0; font-size: .92rem; font-variant-numeric: tabular-nums }
.bars .row { display: contents }
.bars .name { overflow-wrap: anywhere; max-width: 14rem; line-height: 1.3 }
.bars .value { text-align: right; color: var(--soft) }
.bars .no { color: var(--bad); font-weight: 600 }
svg { display: block; overflow: visible }
svg text { font-size: 12px; fill: var(--faint); text-anchor: middle; font-variant-numeric: tabular-nums }
svg text.count { fill: var(--soft) }
.columns, .stack, .scale { margin: .8rem 0 0 }
rect.fill { fill: var(--fill) }
rect.pale { fill: var(--pale) }
rect.bad { fill: var(--bad) }
rect.hatched { fill: url(#hatch) }
rect.track { fill: var(--track) }
rect.base { fill: var(--line) }
rect.mark { fill: var(--ink) }
rect.en, i.en { fill: var(--fill); background: var(--fill) }
rect.zh, i.zh { fill: var(--zh); background: var(--zh) }
rect.mixed, i.mixed { fill: var(--mixed); background: var(--mixed) }
rect.other, i.other { fill: var(--other); background: var(--other) }
rect.none, i.none { fill: var(--none); background: var(--none) }
rect.z0 { fill: color-mix(in srgb, var(--fill) 18%, var(--paper)) }
rect.z1 { fill: color-mix(in srgb, var(--fill) 36%, var(--paper)) }
rect.z2 { fill: color-mix(in srgb, var(--fill) 58%, var(--paper)) }
rect.z3 { fill: color-mix(in srgb, var(--bad) 70%, var(--paper)) }
rect.reach, circle.dot { fill: var(--ink) }
circle.dot { stroke: var(--paper); stroke-width: 2 }
.keys { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: .5rem 0 0; padding: 0; list-style: none;
  font-size: .9rem; color: var(--soft) }
.keys i { display: inline-block; width: .75rem; height: .75rem; border-radius: 3px; margin-right: .4rem }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(4.4rem, 1fr)); gap: .6rem; margin: .2rem 0 0 }
.figures div { min-width: 0 }
.figures dt { color: var(--soft); font-size: .84rem; line-height: 1.3 }
.figures dd { margin: 0; font-size: 1.15rem; font-weight: 600; font-variant-numeric: tabular-nums }
.terms { display: flex; flex-wrap: wrap; gap: .3rem; margin: .35rem 0 0 }
.terms span.term { background: var(--card); border: 1px solid var(--line); border-radius: 5px; padding: .05rem .45rem;
  font-size: .9rem }
.label { font-size: .9rem; color: var(--soft); margin: .8rem 0 0; display: block }
.notes { color: var(--soft); padding-left: 1.2rem; overflow-wrap: anywhere }
@media (max-width: 40rem) {
  body { font-size: 15px; padding-top: 1rem }
  section { padding: .9rem .85rem }
  .bars { gap: .42rem .55rem; grid-template-columns: minmax(4.5rem, 40%) 1fr auto }
}
@media print { .switch { display: none } section { break-inside: avoid } }
"""
