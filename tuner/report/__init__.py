"""HTML: one frame, figures, the pages of a search and of a comparison; and the words of findings.

``write_report`` is the one entry for a page, ``summary_html`` for a notebook's cell,
``figures.figure`` for one figure by its name. ``wording`` and its siblings have the sentences,
which the terminal says, too. What is concluded from records is ``tuner.analysis``.
"""

from tuner.report.page import write_report
from tuner.report.summary import summary_html

__all__ = ["summary_html", "write_report"]
