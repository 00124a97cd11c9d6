"""A correction that cannot be read: what it corrects is known to be wrong, and teaches only as long as a try waits."""

from collections.abc import Callable

import pytest

from backend import reading_again
from backend.errors import ImageError, Unreachable
from tests.backend.fake_label_studio import LABEL_CONFIG
from tests.backend.stage import Stage, blob, brush, example_of, half, mask_taught, reconcile

OTHER_LABELS = LABEL_CONFIG.replace('<Label value="cell"/>', '<Label value="cell"/><Label value="debris"/>')


@pytest.fixture
def unreadable(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let no image be read any more, or let them be read again."""
    really, troubles = stage.backend.images.open, [False]

    def fetch(url: str, task: int) -> object:
        if troubles[0]:
            raise ImageError("The file is gone.")
        return really(url, task)

    monkeypatch.setattr(stage.backend.images, "open", fetch)
    return lambda now=True: troubles.__setitem__(0, now)


def test_once_a_correction_is_given_up_the_mask_that_it_corrects_teaches_no_longer(
    stage: Stage, unreadable: Callable[..., None]
) -> None:
    """It taught for good: everything that looked at the annotation failed before it came to the old example."""
    annotation, mask = stage.approve(1), blob(1)[1]
    stage.backend.store.pin_examples([example_of(stage, annotation).info.key], True)
    unreadable()
    stage.correct(annotation, brush(half(mask)))
    stage.work()
    reconcile(stage)
    assert (mask_taught(stage, annotation) == mask).all(), "it is tried again, and may be read in a moment"
    while stage.backend.store.pending_events():
        stage.work(later=True)
    before = stage.setup()
    assert reconcile(stage).moved
    assert stage.pool == []
    assert stage.setup() != before
    assert not reconcile(stage).moved, "there is nothing left to take out"

    unreadable(False)
    reconcile(stage)
    assert (mask_taught(stage, annotation) == half(mask)).all()
    assert example_of(stage, annotation).info.pinned


def test_so_it_is_where_the_annotation_was_to_be_read_again_already(
    stage: Stage, unreadable: Callable[..., None]
) -> None:
    annotation = stage.approve(1)
    reading_again.read_again(stage.backend.store, stage.key, [annotation])
    unreadable()
    stage.correct(annotation, brush(half(blob(1)[1])))
    while stage.backend.store.pending_events():
        stage.work(later=True)
    reconcile(stage)
    assert stage.pool == []


def test_a_correction_that_no_event_told_of_is_no_other(
    stage: Stage, unreadable: Callable[..., None]
) -> None:
    stays, annotation = stage.approve(2), stage.approve(1)
    unreadable()
    stage.correct(annotation, brush(half(blob(1)[1])), tell=False)
    reconcile(stage)
    assert stage.pool == [stays]


def test_what_is_read_anew_for_another_reason_teaches_as_long_as_it_cannot_be_read(
    stage: Stage, unreadable: Callable[..., None]
) -> None:
    annotation = stage.approve(1)
    stage.label_studio.projects[stage.project]["label_config"] = OTHER_LABELS
    unreadable()
    assert reconcile(stage).unread
    assert stage.pool == [annotation]


def test_while_label_studio_is_away_a_corrected_mask_goes_on_teaching(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(url: str, task: int) -> object:
        raise ImageError("No answer.") from Unreachable("No answer.")

    annotation = stage.approve(1)
    monkeypatch.setattr(stage.backend.images, "open", gone)
    stage.correct(annotation, brush(half(blob(1)[1])), tell=False)
    assert reconcile(stage).unread
    assert stage.pool == [annotation]
