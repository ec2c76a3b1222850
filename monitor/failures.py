"""How commands fail: one message on standard error and an exit code, no traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import typer

__all__ = ["FAILURE", "USAGE", "stop_on"]

FAILURE: Final = 1
"""Something could not be done."""
USAGE: Final = 2
"""The command, the settings or the pack are wrong."""


@contextmanager
def stop_on(*errors: type[Exception], exit_code: int = FAILURE) -> Iterator[None]:
    """End the command when the block raises one of ``errors``, whose text is for people."""
    try:
        yield
    except errors as error:
        for line in str(error).splitlines():
            typer.secho(f"error: {line}", err=True, fg=typer.colors.RED)
        raise typer.Exit(exit_code) from error
