"""One self-contained HTML page, for wide and narrow screens."""

import html
from collections.abc import Sequence

from experiments.pages.blocks import Block, to_html

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1c1e21; background: #fff;
  max-width: 72rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0 1rem; }
h2 { font-size: 1.3rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid #ddd; }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .4rem; }
p { max-width: 46rem; margin: .5rem 0; }
.answer { font-size: 1.1rem; font-weight: 600; background: #eef4fb; padding: .8rem 1rem;
  border-left: 4px solid #2a6fb0; }
pre { background: #f5f5f5; padding: .6rem .8rem; overflow-x: auto; font-size: .85rem; }
.table { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #e3e3e3; text-align: left;
  vertical-align: top; overflow-wrap: normal; }
th { border-bottom: 2px solid #999; }
th:first-child, td:first-child { position: sticky; left: 0; background: #fff; }
td:first-child { white-space: nowrap; }
td { min-width: 4.2rem; }
td.n { min-width: 0; }
.n { text-align: right; white-space: nowrap; }
th.n { white-space: normal; min-width: 4.5rem; }
.figures { display: grid; gap: 1rem; margin: .8rem 0; }
.small { grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); }
.large { grid-template-columns: repeat(auto-fill, minmax(min(32rem, 100%), 1fr)); }
figure { margin: 0; overflow-x: auto; }
img { width: 100%; height: auto; display: block; }
.large img { min-width: 28rem; }
.strip img { min-width: 56rem; }
figcaption { font-size: .85rem; color: #555; }
summary { cursor: pointer; font-weight: 600; padding: .3rem 0; }
a { color: #2a6fb0; }
.when { color: #555; font-size: .9rem; margin: 0; }
@media (max-width: 40rem) {
  body { padding: .6rem; }
  table { font-size: .8rem; }
  th, td { padding: .3rem .35rem; }
  th.n { min-width: 3.2rem; }
  td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 5rem;
    max-width: 8rem; }
  .large img { min-width: 0; }
}
"""


def page(
    title: str, blocks: Sequence[Block], *, above: str = "", below: str = ""
) -> str:
    """The whole document; HTML of one's own comes above the title and at the end."""
    title, inside = html.escape(title), "\n".join(map(to_html, blocks))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{title}</title>'
        f"<style>{STYLE}</style></head>\n"
        f"<body>{above}<h1>{title}</h1>\n{inside}{below}\n</body></html>\n"
    )
