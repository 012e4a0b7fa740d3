"""The result of checking one claim."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """A row of the table of `python -m byol_bnfree.verify`."""

    claim: str
    how: str
    """The check and its network."""
    deviation: str
    """The largest deviation seen, or what was seen instead."""
    holds: bool
    note: str = ""
    """Printed below the table, such as a list of places."""
    expected_of: str | None = None
    """The setting whose nature the failure is, such as bn; None if it is a fault."""

    @property
    def verdict(self) -> str:
        """One or two words."""
        if self.holds:
            return "holds"
        return (
            f"fails, as expected of {self.expected_of}" if self.expected_of else "FAILS"
        )
