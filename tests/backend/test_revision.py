"""When the revision moves, what it is called, and the snapshot that a request works on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from backend import revision
from backend.label_config import LabelConfig, parse
from backend.store import Approval, ExampleInfo, Store, StoredExample
from backend.store.sqlite import SqliteStore
from tests.backend.fake_label_studio import LABEL_CONFIG

KEY, CELL = "1.1700000000", "tag/image/cell"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = SqliteStore(tmp_path / "store.sqlite3")
    yield opened
    opened.close()


def approve(store: Store, annotation: int, target: str) -> None:
    at = f"2026-01-01T00:00:{annotation:02d}Z"
    info = ExampleInfo(f"key{annotation}", KEY, target, annotation, annotation, "drawn", None, at, 0.5)
    approval = Approval(KEY, annotation, annotation, "drawn", None, at, "digest")
    store.put_approval(approval, [StoredExample(info, b"", b"")])


def test_asking_again_pays_after_the_approvals_of_the_fibonacci_numbers() -> None:
    assert [number for number in range(60) if revision.pays_at(number)] == [1, 2, 3, 5, 8, 13, 21, 34, 55]


def test_the_name_says_checkpoint_and_generation_and_is_recognised_as_ours() -> None:
    assert revision.name("embedded-1a2b3c4d", 12) == "seggpt-embedded-1a2b3c4d-r12"
    assert revision.is_ours("seggpt-embedded-1a2b3c4d-r12")


@pytest.mark.parametrize(
    "version", [None, 3, "", "fake-v1", "seggpt-x", "seggpt-x-r1\n", "my-seggpt-x-r1", "seggpt--r1"]
)
def test_a_version_of_another_backend_is_not_ours(version: object) -> None:
    assert not revision.is_ours(version)


@pytest.mark.parametrize("project", ["", KEY])
def test_an_unknown_project_has_the_first_revision_and_nothing_to_predict(store: Store, project: str) -> None:
    snapshot = revision.take(store, project, "random-1")
    assert snapshot == revision.Snapshot(project, "seggpt-random-1-r0", LabelConfig(()), {})
    assert snapshot.ready == ()


def test_a_snapshot_holds_targets_and_their_examples_oldest_first(store: Store) -> None:
    config = parse(
        LABEL_CONFIG.replace('<Label value="cell"/>', '<Label value="cell"/><Label value="debris"/>')
    )
    store.put_label_config(KEY, LABEL_CONFIG.replace("<Label", '<Label value="debris"/><Label', 1), "f")
    store.move_generation(KEY)
    for annotation in (2, 1):
        approve(store, annotation, CELL)
    snapshot = revision.take(store, KEY, "random-1")
    assert snapshot.revision == "seggpt-random-1-r1"
    assert {target.id for target in snapshot.config.targets} == {target.id for target in config.targets}
    assert [info.annotation for info in snapshot.pool[CELL]] == [1, 2]
    assert [target.id for target in snapshot.ready] == [CELL]


def test_examples_of_a_label_that_the_config_no_longer_has_make_nothing_ready(store: Store) -> None:
    store.put_label_config(KEY, LABEL_CONFIG, "f")
    approve(store, 1, "tag/image/gone")
    assert revision.take(store, KEY, "random-1").ready == ()


def test_an_unreadable_label_config_leaves_nothing_to_predict(store: Store) -> None:
    store.put_label_config(KEY, "<View", "f")
    approve(store, 1, CELL)
    snapshot = revision.take(store, KEY, "random-1")
    assert snapshot.revision == "seggpt-random-1-r0"
    assert snapshot.ready == ()
