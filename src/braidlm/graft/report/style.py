"""Style of the page: light and dark, colours that the colour-blind tell apart (Okabe and Ito 2008), dashes besides."""

STYLE = """
:root { color-scheme: light dark; --ink: #1d2327; --soft: #5b666e; --paper: #fdfdfc; --card: #f2f4f5; --rule: #d5dbdf;
  --donor: #0072b2; --graft: #c94f00; --donor_trained: #007d5a; --window_control: #6d7377; --step: #9aa5ad; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9eb; --soft: #a3adb4; --paper: #15191c; --card: #1f2529;
  --rule: #3a444b; --donor: #56b4e9; --graft: #f0803c; --donor_trained: #2fc49a; --window_control: #b7bec3;
  --step: #5f6b73; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { margin: 0 0 .25rem; font-size: 1.7rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 2.5rem 0 .5rem; font-size: 1.25rem; border-bottom: 1px solid var(--rule); padding-bottom: .25rem; }
h3 { margin: 1.5rem 0 .5rem; font-size: 1rem; }
h4 { margin: 0 0 .35rem; font-size: .85rem; color: var(--soft); }
p { max-width: 46rem; margin: .5rem 0; }
.notes { color: var(--soft); padding-left: 1.1rem; max-width: 60rem; }
.summary { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(21rem, 100%), 1fr)); gap: .75rem;
  margin: 1.25rem 0; padding: 0; }
.summary div { background: var(--card); border-radius: .5rem; padding: .75rem 1rem; }
.summary dt { color: var(--soft); font-size: .9rem; }
.summary dd { margin: 0; }
.summary dd.value { font-size: 1.15rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.summary dd.absent { font-weight: 400; color: var(--soft); }
.summary dd.meaning { font-size: .85rem; color: var(--soft); }
.wide { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .25rem 0; }
th, td { padding: .3rem .75rem; border-bottom: 1px solid var(--rule); text-align: right; vertical-align: top;
  white-space: nowrap; }
th:first-child, .text { text-align: left; }
td.long { white-space: normal; min-width: 16rem; }
@media (max-width: 45rem) { th:first-child { white-space: normal; min-width: 6rem; } }
thead th { color: var(--soft); font-weight: 600; }
tbody th { font-weight: 500; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(27rem, 100%), 1fr)); gap: 1rem 2rem; }
figure { margin: .75rem 0; }
figcaption { font-weight: 600; font-size: .95rem; }
svg { width: 100%; height: auto; display: block; }
svg .grid { stroke: var(--rule); stroke-width: 1; }
svg .label { fill: var(--soft); font-size: 12px; font-family: system-ui, sans-serif; }
svg .line { fill: none; stroke-width: 2; }
.line.donor { stroke: var(--donor); }
.line.graft { stroke: var(--graft); stroke-width: 3; }
.line.donor_trained { stroke: var(--donor_trained); stroke-dasharray: 9 4; }
.line.window_control { stroke: var(--window_control); stroke-dasharray: 2 4; }
.line.step { stroke: var(--step); }
.mark.donor, .bar.donor { fill: var(--donor); }
.mark.graft, .bar.graft { fill: var(--graft); }
.mark.donor_trained { fill: var(--donor_trained); }
.mark.window_control { fill: var(--window_control); }
.mark.step { fill: var(--step); }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .15rem 1rem; margin: .25rem 0 0; padding: 0;
  font-size: .85rem; }
.legend li { display: flex; align-items: center; gap: .4rem; }
svg.swatch { width: 28px; flex: none; }
.answers { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(16rem, 100%), 1fr)); gap: .75rem; }
.answer { background: var(--card); border-radius: .5rem; padding: .6rem .8rem; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; font: .85rem/1.45 ui-monospace, monospace; }
footer { margin-top: 3rem; color: var(--soft); font-size: .85rem; }
"""
