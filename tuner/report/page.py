"""The report of a run: one self-contained HTML file, made from the run's records alone."""

from pathlib import Path

from tuner.errors import StorageError
from tuner.records.run import Run, write_text
from tuner.report import compare_page, search_page
from tuner.report.figures import is_comparison


def write_report(run: Run) -> Path:
    """Write ``report.html`` anew, of a search, a measurement or a comparison; RunError where the
    records cannot be read.
    """
    html = compare_page.page(run) if is_comparison(run) else search_page.page(run)
    try:
        write_text(run.report, html)
    except OSError as error:
        raise StorageError(f"cannot write {run.report}: {error.strerror}") from error
    return run.report
