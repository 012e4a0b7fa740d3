"""The table at the end of `python -m byol_bnfree.verify`."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from byol_bnfree.claims.finding import Finding

LEAST_WIDTH = 120  # columns, even if the output is a file


def print_report(findings: Sequence[Finding]) -> None:
    """Print one row for each claim, then lists and byte counts."""
    console = Console()
    console.width = max(console.width, LEAST_WIDTH)
    table = Table(show_lines=True)
    for title in ("claim", "how it was checked", "largest deviation", "verdict"):
        table.add_column(title, overflow="fold")
    for finding in findings:
        words = (finding.claim, finding.how, finding.deviation, finding.verdict)
        table.add_row(*map(Text, words))  # as Text: [b d] is a shape, not markup
    console.print(table)
    for finding in findings:
        if finding.note:
            console.print(finding.note, markup=False, highlight=False, soft_wrap=True)
