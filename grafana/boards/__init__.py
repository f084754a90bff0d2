"""The boards. One is a list of rows of panels: see `panels.py` for what those are made of.

To add a board, write one more `Board` in a module here and name it in `BOARDS`; `make dashboards` writes its JSON, and
the tests of `tests/export/` check its form and run its expressions.
"""

from boards.compared import COMPARED
from boards.cost import COST
from boards.limits import LIMITS
from boards.live import LIVE
from boards.long_context import LONG_CONTEXT
from boards.peak import PEAK

BOARDS = (LIVE, COMPARED, PEAK, LIMITS, COST, LONG_CONTEXT)
