"""What traffic has cost, in a file of the state directory."""

from pathlib import Path
from typing import Final

from pycolo.costs.ledger import Kept
from pycolo.node.shownfile import ShownFile

FILE_NAME: Final = "costs.json"

BYTES_MAX: Final = 1 << 20
"""A file of the largest tables has less than a fifth of this."""

VERSION: Final = 1


def costs_file(directory: Path) -> ShownFile[Kept]:
    """In `directory`, which is there."""
    anew = "what traffic has cost is counted anew"
    return ShownFile(directory / FILE_NAME, Kept, "costs", anew, version=VERSION, bytes_max=BYTES_MAX)
