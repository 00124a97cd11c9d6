"""What only a store in a file can get wrong: processes, sudden ends, versions, full disks, damaged files."""

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend.errors import StoreError
from backend.store import (
    Approval,
    Change,
    ExampleInfo,
    KeptIoU,
    PredictionRecord,
    PromptRecord,
    StoredExample,
    TaskState,
    TuningRecord,
)
from backend.store import sqlite as engine
from backend.store.instants import unix_seconds
from backend.store.schema import STEPS
from backend.store.sqlite import SqliteStore

PROJECT = "12.1700000000"
ROOT = Path(__file__).parents[3]
WRITER = Path(__file__).with_name("writer.py")
GOLDEN = Path(__file__).with_name("golden")
DUMPS = sorted(GOLDEN.iterdir())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite3"


def writer(path: Path, name: int, count: int) -> "subprocess.Popen[str]":
    command = [sys.executable, str(WRITER), str(path), str(name), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own script


def annotations(store: SqliteStore) -> list[int]:
    return [approval.annotation for approval in store.approvals(PROJECT)]


def is_sound(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def an_example(key: str, size: int = 10) -> StoredExample:
    info = ExampleInfo(key, PROJECT, "Cat", 7, 70, "drawn", None, "2026-03-01T12:00:00Z", 0.5)
    return StoredExample(info, bytes(size), bytes(size))


def undump(dump: Path, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(dump.read_text(encoding="utf-8"))


def version(dump: Path) -> int:
    return int(dump.stem.removeprefix("version_"))


def tables(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


AN_APPROVAL = Approval(PROJECT, 7, 70, "drawn", None, "2026-03-01T12:00:00Z", "digest")


class TestProcesses:
    def test_two_processes_that_make_and_fill_the_same_store_lose_nothing(self, path: Path) -> None:
        writers = [writer(path, name, 40) for name in (1, 2)]
        acknowledged = [int(line) for process in writers for line in process.communicate()[0].split()]
        assert [process.returncode for process in writers] == [0, 0]
        with closing(SqliteStore(path)) as store:
            assert len(acknowledged) == 80
            assert annotations(store) == sorted(acknowledged)
            assert {info.annotation for info in store.pool(PROJECT)} == set(acknowledged)
            assert len(store.pool(PROJECT)) == 160
            assert len(store.pending_events(1000)) == 80
            project = store.project(PROJECT)
            assert project is not None
            assert project.approvals == 80
        assert is_sound(path)

    def test_what_a_killed_process_had_acknowledged_is_there_and_nothing_is_there_by_half(
        self, path: Path
    ) -> None:
        """Killed between any two instructions, so the last approval may be there unacknowledged, but only whole."""
        process = writer(path, 1, 0)
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(25)]
        process.kill()
        acknowledged += [int(line) for line in process.communicate()[0].split("\n")[:-1]]
        with closing(SqliteStore(path)) as store:
            stored = annotations(store)
            assert set(acknowledged) <= set(stored)
            assert len(stored) - len(acknowledged) in {0, 1}
            examples = [(info.annotation, info.target) for info in store.pool(PROJECT)]
            assert sorted(examples) == [
                (annotation, target) for annotation in stored for target in ("Cat", "Dog")
            ]
            events = [event.body["annotation"] for event in store.pending_events(100_000)]
            assert set(acknowledged) <= set(events) <= set(stored)
            assert store.put_approval(AN_APPROVAL, []) is Change.NEW
        assert is_sound(path)

    def test_a_writer_waits_for_another_one(self, path: Path) -> None:
        with (
            closing(SqliteStore(path)) as store,
            closing(sqlite3.connect(path, isolation_level=None)) as other,
        ):
            other.execute("BEGIN IMMEDIATE")
            other.execute("INSERT INTO notes VALUES ('whose', 'the other one''s')")
            kept: list[bool] = []
            waiting = threading.Thread(target=lambda: kept.append(store.note_once("whose", "ours")))
            waiting.start()
            assert store.note("whose") is None  # readers do not wait, and see nothing unfinished
            other.execute("COMMIT")
            waiting.join()
            assert kept == [False]

    def test_a_forked_child_opens_connections_of_its_own(self, path: Path) -> None:
        """In a process of its own, since a fork of one with threads is unsafe, and these tests may have some."""
        parent = f"""if True:
            import os, pathlib
            from backend.store.sqlite import SqliteStore
            store = SqliteStore(pathlib.Path({str(path)!r}))
            store.set_note("parent", "before")
            connections = list(store._database._idle)
            child = os.fork()
            if child == 0:
                store.set_note("child", "was here")
                os._exit(any(connection in connections for connection in store._database._idle))
            ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            store.set_note("parent", "after")
            raise SystemExit(ended)
        """
        subprocess.run([sys.executable, "-c", parent], check=True, cwd=ROOT)  # noqa: S603 - our own script
        with closing(SqliteStore(path)) as store:
            assert (store.note("child"), store.note("parent")) == ("was here", "after")
        assert is_sound(path)

    def test_every_commit_reaches_the_disk(self, path: Path) -> None:
        with closing(SqliteStore(path)) as store, store._database.writing() as connection:
            assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


class TestVersions:
    def test_the_folder_and_the_file_are_made(self, tmp_path: Path) -> None:
        with closing(SqliteStore(tmp_path / "not" / "there" / "yet.sqlite3")) as store:
            assert store.projects() == []

    def test_there_is_a_golden_dump_of_every_version(self) -> None:
        versions = range(1, len(STEPS) + 1)
        assert {file.name for file in GOLDEN.iterdir()} == {f"version_{version}.sql" for version in versions}

    @pytest.mark.parametrize("dump", DUMPS, ids=lambda dump: dump.stem)
    def test_a_store_of_an_earlier_version_opens_with_all_that_was_in_it(
        self, path: Path, dump: Path
    ) -> None:
        undump(dump, path)
        with closing(SqliteStore(path)) as store:
            project = store.project(PROJECT)
            assert project is not None
            assert (project.label_config, project.targets, project.generation) == (
                "<View/>",
                "fingerprint",
                2,
            )
            assert (project.approvals, project.reconciled, project.signs) == (1, 1700.5, "3/1")
            assert [(event.action, event.body, event.attempts) for event in store.pending_events()] == [
                ("ANNOTATION_CREATED", {"annotation": {"id": 70}}, 1)
            ]
            at = "2026-03-01T12:00:00.500000Z"
            assert store.approvals(PROJECT) == [Approval(PROJECT, 7, 70, "drawn", 5, at, "digest", 3.25)]
            info = ExampleInfo("k1", PROJECT, "Cat", 7, 70, "drawn", 5, at, 0.25, b"\x00\xff", 0.5)
            if version(dump) >= 3:  # that one was pinned, and a frame of a sequence
                info = replace(info, pinned=True, sequence="clip", frame=12.5)
                frame = store.frame_before(PROJECT, "Cat", "clip", 14.0)
                assert frame is not None
                assert (frame.task, frame.image) == (8, b"\x89PNG image")
            assert store.pool(PROJECT) == [info]
            assert store.examples(["k1"]) == {"k1": StoredExample(info, b"\x89PNG image", b"\x89PNG mask")}
            predicted = PredictionRecord(
                PROJECT, 8, "r1", 100.0, 0.75, {"Cat": ("k1",)}, {"Cat": b"\x89PNG"}, 43, 1.5
            )
            assert store.predictions(PROJECT, 8) == [predicted]
            assert [record.pushed for record in store.pushed(PROJECT)] == [43]
            assert store.kept(PROJECT) == [KeptIoU(PROJECT, 7, 70, "Cat", "r1", 0.875, 200.0)]
            assert store.task_states(PROJECT) == [TaskState(PROJECT, 8, "done", "", "r1", 100.0)]
            assert store.note("seen") == "yes"
            assert store.held("push/") is True
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (len(STEPS),)

    @pytest.mark.parametrize("dump", DUMPS, ids=lambda dump: dump.stem)
    def test_a_store_of_an_earlier_version_becomes_what_a_new_one_is(
        self, path: Path, tmp_path: Path, dump: Path
    ) -> None:
        """Compares the statements too: a step that changed after its dump was made turns this red."""
        undump(dump, path)
        for file in (path, tmp_path / "new.sqlite3"):
            SqliteStore(file).close()
        assert tables(path) == tables(tmp_path / "new.sqlite3")

    def test_the_arrays_stay_behind_all_that_lists_read(self, path: Path) -> None:
        """SQLite reads a row's columns in order: a column behind the arrays makes every list read them."""
        with closing(SqliteStore(path)) as store, store._database.reading() as connection:
            columns = [name for _, name, *_ in connection.execute("PRAGMA table_info(examples)")]
        assert columns[-2:] == ["image", "mask"]

    def test_a_store_from_before_tunings_opens_with_none_and_takes_the_first(self, path: Path) -> None:
        undump(GOLDEN / "version_1.sql", path)
        with closing(SqliteStore(path)) as store:
            assert (store.prompts.tunings(), store.prompts.prompts(PROJECT)) == ([], [])
            assert store.prompts.add_tuning(PROJECT, "Cat", "by hand", 1.0) is not None

    @pytest.mark.parametrize(
        "dump", [dump for dump in DUMPS if version(dump) >= 2], ids=lambda dump: dump.stem
    )
    def test_a_store_with_tunings_opens_with_them_and_their_prompts(self, path: Path, dump: Path) -> None:
        cat, checkpoint, keys = "tag/image/Cat", "embedded-1a2b3c4d", ("k1", "k0")
        undump(dump, path)
        with closing(SqliteStore(path)) as store:
            assert store.prompts.tunings(PROJECT) == [
                TuningRecord(2, PROJECT, cat, "running", "by hand", 500.0, 510.0, None, 520.0, 10, 200, 0.5, None, 90.5, checkpoint, ("k1",), stop=True),
                TuningRecord(1, PROJECT, cat, "done", "the pool has 16 masks", 300.5, 310.0, 400.25, 400.0, 150, 200, 0.125, 0.75, 0.0, checkpoint, keys, 2, "Prompt 2 is active."),
            ]  # fmt: skip
            assert [store.prompts.tuning_state(number) for number in (1, 2)] == [None, b"\x00state\xff"]
            why = "Better by 0.25."
            assert store.prompts.prompts(PROJECT) == [
                PromptRecord(PROJECT, 1, cat, "Cat", checkpoint, "retired", "prompt", "imported", 290.0, {"iou": 0.5}, (), (), 290.0, 400.25, None, why),
                PromptRecord(PROJECT, 2, cat, "Cat", checkpoint, "active", "both", "tuned", 400.25, {"iou": 0.75, "gain": None}, keys, ("k0",), 400.25, None, 1, why),
            ]  # fmt: skip
            contents = [store.prompts.prompt_content(PROJECT, number) for number in (1, 2)]
            assert contents == [b"\x00first", b"\x00second\xff"]
            assert store.prompts.add_tuning(PROJECT, cat, "again", 600.0) is None

    def test_the_id_of_a_tuning_that_is_gone_is_not_given_again(self, path: Path) -> None:
        with closing(SqliteStore(path)) as store:
            first = store.prompts.add_tuning(PROJECT, "Cat", "by hand", 1.0)
            with store._database.writing() as connection:
                connection.execute("DELETE FROM tunings")
            second = store.prompts.add_tuning(PROJECT, "Cat", "by hand", 2.0)
            assert first is not None
            assert second is not None
            assert second.id > first.id

    def test_the_next_step_takes_a_store_along(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with closing(SqliteStore(path)) as store:
            store.put_approval(AN_APPROVAL, [an_example("k1")])
        step = ("ALTER TABLE notes ADD COLUMN at REAL NOT NULL DEFAULT 0", "DELETE FROM examples")
        monkeypatch.setattr(engine, "STEPS", (*STEPS, step))
        with closing(SqliteStore(path)) as store:
            assert store.approvals(PROJECT) == [AN_APPROVAL]
            assert store.pool(PROJECT) == []
            store.put_approval(Approval(PROJECT, 7, 71, "drawn", None, "", "digest"), [an_example("k2")])
        with closing(SqliteStore(path)) as store:  # the step is not taken twice
            assert [info.key for info in store.pool(PROJECT)] == ["k2"]
        monkeypatch.undo()
        with pytest.raises(StoreError, match=f"version {len(STEPS) + 1}.* newer backend"):
            SqliteStore(path)

    def test_a_step_that_fails_leaves_the_store_as_it_was(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with closing(SqliteStore(path)) as store:
            store.put_approval(AN_APPROVAL, [])
        monkeypatch.setattr(engine, "STEPS", (*STEPS, ("DELETE FROM approvals", "no SQL at all")))
        with pytest.raises(StoreError):
            SqliteStore(path)
        monkeypatch.undo()
        with closing(SqliteStore(path)) as store:
            assert store.approvals(PROJECT) == [AN_APPROVAL]

    def test_somebody_else_s_database_is_left_alone(self, path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE projects (theirs)")
        with pytest.raises(StoreError, match="not a store of this backend"):
            SqliteStore(path)
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("projects",)]


class TestTrouble:
    def test_a_full_disk_is_named_and_what_was_stored_before_stays(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connect = sqlite3.connect

        def connect_to_small_disk(*args: Any, **options: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(*args, **options)
            connection.execute("PRAGMA max_page_count = 60")  # SQLite's own answer at the limit: SQLITE_FULL
            return connection

        monkeypatch.setattr(sqlite3, "connect", connect_to_small_disk)
        with closing(SqliteStore(path)) as store:
            event = store.add_event(PROJECT, "A", {}, 1.0)
            with pytest.raises(StoreError, match=r"disk is full.*Free space"):
                store.put_approval(AN_APPROVAL, [an_example("k1", size=300_000)])
            assert [pending.id for pending in store.pending_events()] == [event]
            assert store.approvals(PROJECT) == []
            assert store.put_approval(AN_APPROVAL, [an_example("k1")]) is Change.NEW

    def test_a_store_that_stays_locked_is_named(self, path: Path) -> None:
        with (
            closing(SqliteStore(path, busy_seconds=0)) as store,
            closing(sqlite3.connect(path, isolation_level=None)) as other,
        ):
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match=r"locked by another process.*Close other programs"):
                store.add_event(PROJECT, "A", {}, 1.0)
            other.execute("ROLLBACK")
            store.add_event(PROJECT, "A", {}, 1.0)
            assert len(store.pending_events()) == 1

    def test_a_file_that_is_no_database_is_refused_and_left_alone(self, path: Path) -> None:
        path.write_bytes(b"these are not the pages you are looking for" * 100)
        with pytest.raises(StoreError, match=r"damaged.*python -m backend sync"):
            SqliteStore(path)
        assert path.read_bytes().startswith(b"these are not")

    def test_a_damaged_page_is_an_error_of_the_store(self, path: Path) -> None:
        with closing(SqliteStore(path)) as store:
            store.put_approval(AN_APPROVAL, [an_example("k1", size=50_000)])
        with path.open("r+b") as file:
            file.seek(-60_000, 2)  # the last pages hold the arrays and where each goes on
            file.write(b"\xa5" * 60_000)
        with closing(SqliteStore(path)) as store:
            assert store.approvals(PROJECT) == [AN_APPROVAL]
            with pytest.raises(StoreError, match="damaged"):
                store.examples(["k1"])

    def test_a_disk_that_fails_is_named_and_what_was_acknowledged_is_there(self, path: Path) -> None:
        """The system refuses to let the file grow, in the middle of a write."""
        command = [
            "sh",
            "-c",
            'ulimit -f 2000 && exec "$@"',
            "sh",
            sys.executable,
            str(WRITER),
            str(path),
            "1",
            "0",
        ]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own script
        assert "StoreError: The disk failed" in ended.stderr
        acknowledged = [int(line) for line in ended.stdout.split()]
        with closing(SqliteStore(path)) as store:
            assert annotations(store)[: len(acknowledged)] == acknowledged
            assert acknowledged
        assert is_sound(path)

    def test_what_is_being_done_when_the_store_closes_is_finished(self, path: Path) -> None:
        store = SqliteStore(path)
        with store._database.writing() as connection:
            connection.execute("INSERT INTO notes VALUES ('last', 'words')")
            store.close()
        with closing(SqliteStore(path)) as again:
            assert again.note("last") == "words"

    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(StoreError, match=r"cannot be made.*DATA_DIR"):
            SqliteStore(tmp_path / "file" / "store.sqlite3")

    def test_a_path_that_cannot_be_opened_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match=r"cannot be opened.*DATA_DIR"):
            SqliteStore(tmp_path)

    def test_memory_is_no_place_for_a_store(self) -> None:
        with pytest.raises(StoreError, match=r"cannot share it between processes.*local disk"):
            SqliteStore(Path(":memory:"))


@pytest.mark.parametrize(
    ("at", "seconds"),
    [
        ("1970-01-01T00:00:01Z", 1.0),
        ("1970-01-01T00:00:01.250000Z", 1.25),
        ("1970-01-01T01:00:01+01:00", 1.0),
        ("1970-01-01T00:00:01", 1.0),
        ("", 0.0),
        ("yesterday", 0.0),
    ],
)
def test_times_of_label_studio_compare_as_the_instants_they_name(at: str, seconds: float) -> None:
    assert unix_seconds(at) == seconds
