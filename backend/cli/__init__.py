"""Commands, and the one place where errors become exit codes; every command builds only what it needs."""

from backend.cli.main import main

__all__ = ["main"]
