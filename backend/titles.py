"""What people call a project in Label Studio: kept when the project is read, so that no page has to ask for it."""

from backend.protocol import is_text
from backend.store import Store

_LONGEST = 200  # signs; Label Studio allows 50


def remember(store: Store, project: str, title: object) -> None:
    """Keep a project's title in place of the one before; anything that is no text, or an empty one, is passed over."""
    if not isinstance(title, str) or not title.strip() or not is_text(title):
        return
    shown = " ".join(title.split())[:_LONGEST]
    if shown != of(store, project):
        store.set_note(_name(project), shown)


def of(store: Store, project: str) -> str:
    """A project's title; "" where it was never told."""
    return store.note(_name(project)) or ""


def _name(project: str) -> str:
    return f"title:{project}"
