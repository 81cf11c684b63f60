"""The report of a run: one self-contained HTML file, made from the run's records alone."""

from pathlib import Path

from tuner.errors import StorageError
from tuner.records.run import Run, write_text
from tuner.report import compare_page, gate_page, search_page


def write_report(run: Run) -> Path:
    """Write ``report.html`` anew, of a run of any kind; RunError where the
    records cannot be read.
    """
    pages = {"compare": compare_page.page, "gate": gate_page.page}
    html = pages.get(run.manifest().kind, search_page.page)(run)
    try:
        write_text(run.report, html)
    except OSError as error:
        raise StorageError(f"cannot write {run.report}: {error.strerror}") from error
    return run.report
