"""What a breakage is: one exact replacement in one file, and the promise that it breaks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LONGEST_NAME = 58  # a progress line has 80 columns
WRITTEN_TO = "RELAY_BREAKAGES_WITNESS"
"""The variable that tells the witness where to write."""


class Unusable(Exception):
    """A breakage that says nothing about the tests; the text says why."""


@dataclass(frozen=True)
class Breakage:
    """One check or step taken out of the product.

    Attributes:
        promise: its number in docs/security.md.
        name: what the broken product does or leaves out.
        file: relative to the checkout.
        old: text that is found exactly once in the file.
        new: what replaces it.
        seen_by: the named test that is tried first, because it is known to notice.
    """

    promise: int
    name: str
    file: str
    old: str
    new: str
    seen_by: str

    def apply(self, root: Path) -> str:
        """Return the file's text with the replacement.

        Raises:
            Unusable: the old text does not stand exactly once, or the new one is not Python.
        """
        path = root / self.file
        try:
            text = path.read_text("utf-8")
        except FileNotFoundError:
            raise Unusable(f"{self.file} does not exist; name the file where it is now") from None
        found = text.count(self.old)
        if found != 1:
            raise Unusable(
                f"its old text is found {found} times in {self.file}, not once; fit it to the code"
            )
        broken = text.replace(self.old, self.new)
        if self.file.endswith(".py"):
            try:
                compile(broken, self.file, "exec")
            except SyntaxError as error:
                raise Unusable(f"its new text is not Python: {error}") from None
        return broken
