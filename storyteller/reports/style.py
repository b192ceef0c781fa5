"""The one style sheet: quiet, light or dark as the reader's system is, readable on a phone and on paper.

The fonts are those that the system has. Colours are variables, which the plots draw with too; text has a contrast of at
least 4.5 to what it stands on and the lines of a plot at least 3 (WCAG 2.2, 1.4.3 and 1.4.11), which a test measures.
"""

from __future__ import annotations

COLORS = 8
"""Colours of the plots' palette: `--line-0` to `--line-7`."""

LIGHT = {
    "paper": "#fdfcf9",
    "sheet": "#f6f4ee",
    "ink": "#24211d",
    "muted": "#665f55",
    "rule": "#dcd6ca",
    "grid": "#e6e1d6",
    "link": "#1d5a94",
    "new": "#f8e7b0",
    "alarm": "#9a2b12",
    "line-0": "#1f5fa8",
    "line-1": "#c2410c",
    "line-2": "#0f766e",
    "line-3": "#7e3fa8",
    "line-4": "#8a6100",
    "line-5": "#be185d",
    "line-6": "#475569",
    "line-7": "#3f7d20",
}
DARK = {
    "paper": "#16171a",
    "sheet": "#1e2024",
    "ink": "#e6e3dc",
    "muted": "#a49e93",
    "rule": "#3a3c42",
    "grid": "#2b2d32",
    "link": "#8ab8ec",
    "new": "#52461c",
    "alarm": "#f0917a",
    "line-0": "#7ab0f5",
    "line-1": "#f59e6c",
    "line-2": "#4fd1b8",
    "line-3": "#c4a0f0",
    "line-4": "#e3b94f",
    "line-5": "#f48fb8",
    "line-6": "#a9b4c4",
    "line-7": "#98cf6f",
}
"""The colours by their names; a dark page has the same names."""


def _variables(colors: dict[str, str]) -> str:
    return "".join(f"--{name}:{color};" for name, color in colors.items())


_RULES = """
*{box-sizing:border-box}
html{font:100%/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
  background:var(--paper);color:var(--ink);-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{max-width:66rem;overflow-wrap:anywhere;margin:0 auto;padding:clamp(1.25rem,4vw,3.5rem) clamp(1rem,4vw,2.5rem)}
body>*{overflow-x:clip;overflow-clip-margin:.5rem}
a{color:var(--link);text-underline-offset:.15em}
:focus-visible{outline:2px solid var(--link);outline-offset:2px}
h1,h2,h3,h4{line-height:1.2;font-weight:600;text-wrap:balance;margin:0}
h1{font-size:clamp(1.6rem,1.2rem + 2vw,2.3rem);letter-spacing:-.015em}
h2{font-size:1.3rem;margin:3.25rem 0 1rem;padding-top:.9rem;border-top:1px solid var(--rule)}
h3{font-size:1.02rem;margin:2rem 0 .6rem}
h4{font-size:.95rem;margin:1.5rem 0 .5rem}
h2 small,h3 small,h4 small{font-weight:400;font-size:.85rem;color:var(--muted)}
p{margin:.6rem 0;max-width:44rem}
.lead{font-size:1.06rem;color:var(--muted);max-width:46rem;margin:.6rem 0 0}
.note,figcaption,article footer{font-size:.86rem;color:var(--muted)}
.warning{border-left:3px solid var(--alarm);padding:.1rem 0 .1rem .8rem}
nav ul{list-style:none;margin:1.4rem 0 0;padding:0;display:flex;flex-wrap:wrap;gap:.25rem 1.2rem;font-size:.9rem}
footer.end{margin-top:4rem;padding-top:.9rem;border-top:1px solid var(--rule);font-size:.86rem;color:var(--muted)}
dl{margin:1rem 0}dt{color:var(--muted);font-size:.86rem}dd{margin:0}
.facts>div{display:grid;grid-template-columns:minmax(7rem,13rem) 1fr;gap:0 1.2rem;padding:.28rem 0;
  align-items:baseline}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,8.5rem),1fr));gap:1.1rem 1.4rem;
  margin:1.7rem 0}
.tiles>div{display:flex;flex-direction:column-reverse;justify-content:flex-end}
.tiles dd{font-size:1.45rem;line-height:1.25;font-variant-numeric:tabular-nums;letter-spacing:-.01em}
.scroll{overflow-x:auto;margin:1rem 0;max-width:100%}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums;min-width:min(100%,24rem)}
caption{caption-side:bottom;text-align:left;font-size:.86rem;color:var(--muted);padding-top:.5rem}
th,td{padding:.34rem 1.5rem .34rem 0;text-align:left;vertical-align:baseline;border-bottom:1px solid var(--grid);
  unicode-bidi:isolate;max-width:26rem;overflow-wrap:break-word}
th:last-child,td:last-child{padding-right:0}
thead th{font-weight:500;font-size:.82rem;color:var(--muted);border-bottom-color:var(--rule);vertical-align:bottom}
tbody th{font-weight:500}
tbody tr:last-child>*{border-bottom-color:var(--rule)}
.figure{text-align:right;white-space:nowrap}
.story{background:var(--sheet);border-radius:.5rem;padding:.85rem 1.1rem .9rem;margin:1rem 0;overflow:clip;
  break-inside:avoid}
.story header{font-size:.86rem;color:var(--muted);font-variant-numeric:tabular-nums}
.story p{font-family:Charter,"Iowan Old Style","Palatino Linotype","Source Serif 4",Georgia,"DejaVu Serif",serif;
  font-size:1rem;line-height:1.6;margin:.3rem 0 0;max-width:38rem;white-space:pre-wrap}
.story footer{margin-top:.5rem}
.grid{display:grid;gap:1.1rem 1.8rem;margin:1.1rem 0;
  grid-template-columns:repeat(auto-fill,minmax(min(100%,var(--narrowest,20rem)),1fr))}
.grid>*,.grid>.story{margin:0;min-width:0}
@media (min-width:52rem){
  main>.story,details>.story{display:grid;grid-template:auto 1fr/9.5rem 1fr;column-gap:1.2rem}
  main>.story p,details>.story p{grid-area:1/2/3/3;margin:0}
  main>.story header,details>.story header{grid-area:1/1/2/2;padding-top:.2rem}
  main>.story footer,details>.story footer{grid-area:2/1/3/2;margin-top:.1rem}
}
.prompt,.kept{color:var(--muted)}
mark{background:var(--new);color:inherit;border-radius:.15em;box-shadow:0 0 0 .08em var(--new);
  -webkit-box-decoration-break:clone;box-decoration-break:clone}
figure{margin:1.4rem 0;break-inside:avoid}
figcaption{margin-top:.5rem;max-width:44rem}
details{margin:1rem 0}
summary{cursor:pointer;color:var(--link);font-size:.94rem;padding:.2rem 0}
pre{background:var(--sheet);border-radius:.5rem;padding:.8rem 1rem;margin:1rem 0;overflow-x:auto;font-size:.86rem;
  line-height:1.5;white-space:pre-wrap}
code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono","DejaVu Sans Mono",monospace}
.unseen{position:absolute;width:1px;height:1px;margin:-1px;padding:0;overflow:hidden;clip-path:inset(50%);
  white-space:nowrap}
.plot{overflow-x:clip}
.plot .name{font-size:.92rem;font-weight:500;margin:0 0 .1rem}
.plot .name span{font-weight:400;color:var(--muted)}
.legend{list-style:none;margin:0 0 .35rem;padding:0;display:flex;flex-wrap:wrap;gap:.1rem 1.1rem;font-size:.84rem;
  font-variant-numeric:tabular-nums}
.legend li{display:flex;align-items:center;gap:.45rem;min-width:0}
.legend svg{flex:none}
.legend span{min-width:0}
.legend b{font-weight:400;color:var(--muted)}
.axes{padding:.6rem .9rem 1.55rem 3.1rem}
.axes.named{padding-bottom:2.7rem}
.axes.rows{padding:0 .6rem 1.55rem}
svg{display:block;overflow:visible;font-size:12px;font-variant-numeric:tabular-nums}
svg svg{overflow:hidden}
svg text{fill:var(--muted)}
svg .said{fill:var(--ink)}
svg .grid-line{stroke:var(--grid)}
svg .axis{stroke:var(--rule)}
svg .mark{stroke:var(--muted);stroke-dasharray:2 3}
svg .line{fill:none;stroke-width:1.75;stroke-linejoin:round;stroke-linecap:round}
svg .faint{stroke-width:1;opacity:.38}
svg .interval{stroke-width:5;stroke-linecap:round;opacity:.45}
svg .band{stroke:none;opacity:.2}
@media (max-width:36rem){
  .facts>div{grid-template-columns:1fr}
  th,td{padding-right:1rem}
  td.long{min-width:14rem}
  .story{padding:.75rem .9rem}
}
@media print{
  body{max-width:none;padding:0}
  nav,summary{display:none}
  .scroll{overflow:visible}
  .story,pre{border:1px solid var(--rule);background:none}
  h2,h3,h4{break-after:avoid}
  tr{break-inside:avoid}
}
"""

_PALETTE = "".join(f"svg .s{i}{{stroke:var(--line-{i})}}svg .f{i}{{fill:var(--line-{i})}}" for i in range(COLORS))

STYLE = (
    f":root{{color-scheme:light dark;{_variables(LIGHT)}}}\n"
    f"@media screen and (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}"
    f"{_RULES}{_PALETTE}\n"
)
"""What goes into a page's `<style>`; paper is light whatever the screen is."""
