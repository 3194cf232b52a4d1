"""What an evolution report's page needs beside the data report's sheet and the heat map's."""

STYLE = """
body { max-width: 70rem }
h2 { border-top: 1px solid var(--line); padding-top: 1.3rem }
h3.task { margin: 1.3rem 0 .5rem }
.overview { grid-template-columns: repeat(auto-fit, minmax(min(9.8rem, 100%), 1fr)) }
.overview a { color: var(--ink) }
.overview .value { font-size: 1.12rem }
.overview a.ok { border-left: 4px solid var(--ok) }
.overview a.flag { border-left: 4px solid var(--bad) }
code { font: .88em ui-monospace, "Cascadia Mono", "DejaVu Sans Mono", monospace; background: var(--card);
  border: 1px solid var(--line); border-radius: 5px; padding: .05rem .4rem; overflow-wrap: anywhere }
.figures { grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)); margin-top: .6rem }
.figures dd { overflow-wrap: anywhere }
.small { color: var(--soft); font-size: .9rem; margin: .7rem 0 0; overflow-wrap: anywhere }
.curves { display: grid; grid-template-columns: auto 1fr; gap: .2rem .5rem; margin: 1rem 0 0 }
.curves svg { height: 13rem; width: 100%; overflow: visible }
.curves .ticks { display: flex; flex-direction: column; justify-content: space-between; text-align: right;
  margin: -.6em 0; color: var(--faint); font-size: .8rem; font-variant-numeric: tabular-nums }
.curves .across { grid-column: 2; display: flex; justify-content: space-between; color: var(--faint); font-size: .8rem;
  font-variant-numeric: tabular-nums }
polyline.line { fill: none; stroke-width: 2; vector-effect: non-scaling-stroke; stroke-linejoin: round }
polyline.fill { stroke: var(--fill) } polyline.zh { stroke: var(--zh) } polyline.mixed { stroke: var(--mixed) }
polyline.other { stroke: var(--other) }
i.fill { background: var(--fill) }
line.rule { stroke: var(--line); stroke-width: 1; vector-effect: non-scaling-stroke }
rect.pass { fill: var(--ok); opacity: .55 } rect.fail { fill: var(--bad); opacity: .55 }
rect.undecided, rect.new { fill: var(--fill); opacity: .45 }
rect.nought { fill: var(--faint) }
.state.pass { color: var(--ok) } .state.fail { color: var(--bad); font-weight: 600 }
.state.undecided, .state.new { color: var(--soft) }
.tasks { display: grid; gap: .6rem; margin: .8rem 0 0 }
.tasks > div { display: grid; grid-template-columns: minmax(8rem, 1.2fr) 8.5rem minmax(8rem, 2.4fr) 15rem;
  gap: .1rem 1.2rem; align-items: center; padding: .55rem .9rem; border: 1px solid var(--line); border-radius: 8px;
  font-variant-numeric: tabular-nums }
.tasks > div.fail { border-color: var(--bad-line); background: var(--bad-card) }
.tasks b { display: block; overflow-wrap: anywhere; font-weight: 600 }
.tasks small { color: var(--soft); font-size: .84rem; display: block; line-height: 1.35 }
.tasks .scores span { white-space: nowrap }
.tasks .right { text-align: right }
.flip { border: 1px solid var(--line); border-radius: 8px; padding: .55rem .9rem; margin: 0 0 .5rem;
  break-inside: avoid }
.flip.lost { border-left: 4px solid var(--bad) } .flip.gained { border-left: 4px solid var(--ok) }
.flip p { margin: 0; overflow-wrap: anywhere; white-space: pre-wrap }
.flip p.asked { font-weight: 600 }
.flip dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .8rem; margin: .3rem 0 0 }
.flip dt { color: var(--soft); font-size: .88rem }
.flip dd { margin: 0; overflow-wrap: anywhere; white-space: pre-wrap }
details { margin: .6rem 0 0 } summary { cursor: pointer; color: var(--soft) }
details table, .history { margin-top: .5rem; font-size: .9rem }
.listed th, .listed td { text-align: left; vertical-align: top; background: none; padding: .2rem .6rem .2rem 0;
  overflow-wrap: anywhere; min-width: 0; white-space: normal }
.listed tbody th { position: static; color: var(--soft); max-width: none }
@media (max-width: 46rem) {
  .tasks > div { grid-template-columns: 1fr auto }
  .tasks > div > .picture { grid-column: 1 / -1; grid-row: 2 }
  .tasks > div > .right { grid-column: 2; grid-row: 1 }
  .tasks > div > .scores { grid-column: 1 / -1; grid-row: 3 }
  .curves svg { height: 10rem }
  h2 { margin-top: 1.6rem; padding-top: 1rem }
}
@media print { details { display: block } }
"""
