"""The report of a run: `write(workdir)` makes report.html, `table(workdir)` the terminal's table.

One direction: `results` reads the work directory; `charts`, `chains`, `conversations` and
`measured` make its parts; `page` puts them together. Names and colours that they share are in
`labels`.
"""

from gtalign_jax.report.page import write
from gtalign_jax.report.results import load, table

__all__ = ["load", "table", "write"]
