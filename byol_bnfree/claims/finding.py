"""The result of a check."""

import re
import traceback
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """A row in the table of `python -m byol_bnfree.verify`."""

    claim: str
    how: str
    """The check, and the network it ran on."""
    deviation: str
    """The largest deviation found, or another finding."""
    holds: bool
    note: str = ""
    """Printed below the table, for instance a list of source lines."""
    expected_of: str | None = None
    """A setting that explains the failure, such as bn. None means a fault."""

    @property
    def verdict(self) -> str:
        """The verdict in one or two words."""
        if self.holds:
            return "holds"
        return (
            f"fails, as expected of {self.expected_of}" if self.expected_of else "FAILS"
        )


def broken(claim: str, error: Exception) -> Finding:
    """Return the finding of a check that ended with an error."""
    reason = "".join(traceback.format_exception_only(error)).strip().splitlines()[0]
    trace = "".join(traceback.format_exception(error))
    return Finding(
        claim, "not checked, because an error ended the check", reason, False, trace
    )


def short(text: str) -> str:
    """Shorten paths to the part from the package on."""
    return re.sub(r"\S*/(byol_bnfree/)", r"\1", text)
