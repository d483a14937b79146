"""How pages look: dark text on white, on a screen, on a phone and on paper."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #1a1a1a; font: 16px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans",
  sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; padding-top: .5rem; border-top: 2px solid #1a1a1a; }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
p { margin: .5rem 0; max-width: 46rem; overflow-wrap: anywhere; }
nav { margin: 1rem 0; line-height: 2; }
nav a { margin-right: 1rem; display: inline-block; }
li { overflow-wrap: anywhere; }
a { color: #00528a; }
.lead { font-size: 1.1rem; }
.quiet { color: #4a4a4a; }
.warning, .fine { border-left: .4rem solid #b34700; padding: .5rem .9rem; margin: 1rem 0; background: #fdf3ec; }
.fine { border-color: #00795a; background: #eef8f5; }
.warning ul { margin: .25rem 0; padding-left: 1.2rem; }
.warning li { margin: .3rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; margin: .5rem 0; }
caption { text-align: left; color: #4a4a4a; padding-bottom: .25rem; }
th, td { text-align: left; padding: .2rem .7rem .2rem 0; border-bottom: 1px solid #d5d5d5; vertical-align: top;
  overflow-wrap: anywhere; }
thead th, thead td { border-bottom: 2px solid #1a1a1a; vertical-align: bottom; overflow-wrap: normal; }
thead .number { white-space: normal; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.bars { width: 100%; }
th[scope=row] { min-width: 5.5rem; }
.bars th[scope=row] { font-weight: 400; }
.bars .bar { width: 34%; min-width: 4.5rem; vertical-align: middle; }
.bar div { height: .85rem; min-width: 1px; background: #172ce5; }
.bar .low { background: #b34700; }
.bars td:not(.bar):not(.number) { min-width: 5rem; }
.facts th { font-weight: 600; padding-right: 1rem; white-space: nowrap; }
.facts td { font-variant-numeric: tabular-nums; }
code, .digest { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .9em; overflow-wrap: anywhere; }
figure { margin: 1rem 0; }
figcaption { max-width: 46rem; font-size: .95rem; margin-top: .25rem; }
figure > svg, .scroll > svg { display: block; max-width: 100%; height: auto; }
.plot { width: 100%; max-width: 35rem; }
.map { width: 100%; max-width: 44rem; }
.wide { max-width: none !important; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); gap: 0 2rem; }
.swatch { width: 1.1em; height: 1.1em; vertical-align: -.2em; margin-right: .3em; }
.legend { list-style: none; padding: 0; margin: .5rem 0; columns: 15rem; font-size: .92rem; }
.legend li { break-inside: avoid; padding-left: 1.4em; text-indent: -1.4em; }
details { margin: .4rem 0; }
summary { cursor: pointer; color: #00528a; }
svg text { fill: #1a1a1a; font-family: system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
@media (max-width: 34rem) {
  .spare { display: none; }
  .bars .bar { width: 22%; min-width: 3rem; }
  th, td { padding-right: .45rem; }
  .facts th { white-space: normal; }
}
@media print {
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  h2 { break-after: avoid; }
  figure, tr { break-inside: avoid; }
  .warning, .fine, .bar div { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
