"""Errors as one message and an exit code; each code is defined here."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from tuner.errors import InfrastructureError, TunerError
from tuner.interrupts import hear_no_more

OK = 0
NOT_MET = 1
"""Nothing meets the SLA."""
MISSING = InfrastructureError.exit_code
"""This machine lacks something, or nothing could be measured."""
INCONCLUSIVE = 4
"""Of a gate: what was measured does not tell."""
INTERRUPTED = 130


@contextmanager
def exit_codes() -> Iterator[None]:
    """Errors as one message and an exit code; a traceback only with TUNER_DEBUG=1."""
    try:
        yield
    except TunerError as error:
        if os.environ.get("TUNER_DEBUG") == "1":
            raise
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as interrupt:
        hear_no_more()
        typer.echo(
            "interrupted: the same command resumes a search or a comparison; a measurement and "
            "a gate start anew",
            err=True,
        )
        raise typer.Exit(INTERRUPTED) from interrupt
