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
    expected_to_fail: bool = False
    """Whether the failure is what the configuration says, as for BatchNorm."""

    @property
    def verdict(self) -> str:
        """One or two words."""
        if self.holds:
            return "holds"
        return "fails, as expected of bn" if self.expected_to_fail else "FAILS"
