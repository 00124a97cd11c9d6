"""The command line's root: options to settings, errors to one red line and an exit code."""

import sys
from collections.abc import Mapping
from typing import Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from backend.errors import BackendError
from backend.settings import Settings

app = typer.Typer(
    help="SegGPT for Label Studio: approved masks pre-annotate the next task.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
console = Console()


def settings_with(overrides: Mapping[str, Any]) -> Settings:
    """Settings from the environment, with the command's options before them.

    Raises:
        BackendError: naming the setting that is wrong.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        said = "; ".join(
            f"{'.'.join(str(p) for p in item['loc']).upper()}: {item['msg']}" for item in error.errors()
        )
        raise BackendError(f"Setting not understood: {said}.", remedy="See docs/settings.md.") from None


def main() -> None:
    """Run the command in `sys.argv`."""
    from backend.cli import (  # noqa: F401 - registers the commands
        evaluation,
        examples,
        playground,
        predicting,
        prompts,
        serving,
        store,
        tasks,
        tuning,
    )

    try:
        app()
    except (BackendError, ValueError, OSError, MemoryError) as error:
        lacking = "There is not enough memory." if isinstance(error, MemoryError) else ""
        said = escape(f"{error}" or lacking)  # Python's own has no words
        Console(stderr=True).print(
            f"[red]{type(error).__name__}:[/red] {said}", highlight=False, soft_wrap=True
        )
        sys.exit(1)
