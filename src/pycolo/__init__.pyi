# The API as type checkers see it: `__init__.py` imports each name when it is asked for.

from pycolo import frames as frames
from pycolo.api import Comparator as Comparator
from pycolo.api import Rewriter as Rewriter
from pycolo.compare.difference import Difference as Difference
from pycolo.compare.difference import ReportDifference as ReportDifference
from pycolo.compare.difference import RequestCheckpoint as RequestCheckpoint
from pycolo.compare.kinds import DifferenceKind as DifferenceKind
from pycolo.compare.kinds import DivergencePolicy as DivergencePolicy
from pycolo.errors import PycoloError as PycoloError

__version__: str
