"""Copies between the engines: nothing is lost, nothing is changed, nothing is overwritten by mistake."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from backend.errors import NotFound, Refused, StoreError
from backend.store import (
    Approval,
    ExampleInfo,
    KeptIoU,
    PredictedFrame,
    PredictionRecord,
    PromptRecord,
    Store,
    StoredExample,
    TaskState,
)
from backend.store.migrate import Copied, migrate, place
from backend.store.redis import RedisStore
from backend.store.redis_records import KINDS, Form
from backend.store.redis_rows import RedisRows
from backend.store.sqlite import SqliteStore
from tests.backend.redis_server import RedisServer

HERE, THERE = "12.1700000000", "odd:%3A 🐈"
TARGETS = ("tag/image/Cat", "Ünal: 100 %\u0000")
GOLDEN = Path(__file__).with_name("golden")
AFFINITY: dict[Form, tuple[str, int]] = {
    "text": ("TEXT", 1),
    "integer": ("INTEGER", 1),
    "real": ("REAL", 1),
    "blob": ("BLOB", 1),
    "integer?": ("INTEGER", 0),
    "real?": ("REAL", 0),
}


def fill(store: Store) -> None:
    """Everything that the contract lets be kept, with figures and texts that a careless copy changes."""
    for project in (HERE, THERE):
        store.put_label_config(project, "<View a='1'>\r\n🐈</View>", "f1")
        store.put_label_config(project, "<View/>", "f2")
        store.mark_reconciled(project, 1 / 3, "7/3/1")
        _teach(store, project)
        _predict(store, project)
        _tune(store, project)
    gone = store.add_event(HERE, "A", {}, 1.0)
    kept = store.add_event(
        THERE, "ANNOTATION_CREATED", {"who": "Ünal 🐈\u0000", "rle": [0, 255], "x": 0.1}, 1e-300
    )
    store.retry_event(kept, "no answer: 503")
    store.finish_event(gone)
    store.finish_event(store.add_event(HERE, "the last id is of one that is gone", {}, 1.0))
    store.set_note("paid:1", "")
    store.set_note("trouble:look:%3A", "Ünal 🐈")
    store.acquire("learn:1", "me", 1000)


def _teach(store: Store, project: str) -> None:
    for annotation in (70, 71, 2**40):
        at = f"2026-03-01T12:00:0{annotation % 7}.{annotation % 10}00001+01:00"
        approval = Approval(project, 7, annotation, "drawn", 5, at, f"digest {annotation}", 0.1 + 0.2)
        infos = [
            ExampleInfo(
                f"{project}/{annotation}/{number}", project, target, 7, annotation, "corrected", None, at, 1 / 3, b"\x00\xff", None
            )
            for number, target in enumerate(TARGETS)
        ]  # fmt: skip
        store.put_approval(approval, [StoredExample(info, b"\x89PNG\x00\xff\r\n" * 9, b"") for info in infos])
    store.put_approval(Approval(project, 8, 99, "accepted", None, "no time", ""), [])
    store.withdraw(project, [71])
    store.drop_examples([f"{project}/70/0"])
    store.score_examples({f"{project}/70/1": 2 / 3})
    store.pin_examples([f"{project}/70/1"], True)
    store.place_examples({f"{project}/70/1": ("clip:1", 0.1 + 0.2)})
    store.add_kept([KeptIoU(project, 7, 70, target, "r1", 0.1, 1e9 + 0.1) for target in TARGETS])
    store.set_task_states([TaskState(project, 7, "failed", "the image: 404", "r1", 12.5)])


def _predict(store: Store, project: str) -> None:
    context = {TARGETS[0]: ("k2", "k1"), TARGETS[1]: ()}
    masks = {TARGETS[0]: b"\x00\xff\r\n", TARGETS[1]: b""}
    for revision, at, pushed in [
        ("r:1", 100.1, 43),
        ("r:1", 100.1, 44),
        ("r:1", 300.0, None),
        ("r2", 300.0, 9),
    ]:
        store.put_prediction(PredictionRecord(project, 7, revision, at, 1 / 3, context, masks, pushed, 0.1))
    store.put_prediction(PredictionRecord(project, 8, "r2", 1.0, 0.0, {}, {}, 10))
    store.forget_pushed(project, [10])
    for task in (7, 8):
        pictures = b"\x89PNG\x00\xff\r\n", b""
        frames = [
            PredictedFrame(project, target, task, "clip:1", 1 / 3, 0.1, 1e9, *pictures) for target in TARGETS
        ]
        store.put_frames(project, task, frames, keep=3)


def _tune(store: Store, project: str) -> None:
    for status, state in (("done", b"gone"), ("stopped", b"\x00state\xff"), ("running", None)):
        tuning = store.prompts.add_tuning(project, TARGETS[0], "Ünal, by hand", 1 / 3)
        assert tuning is not None
        progress = replace(tuning, status=status, loss=0.1, steps=200, examples=("k2", "k1"), reason="%3A")  # type: ignore[arg-type]
        store.prompts.put_tuning(progress, state)
    store.prompts.ask_stop(store.prompts.tunings(project)[0].id)
    prompt = PromptRecord(
        project, 0, TARGETS[0], "🐈", "embedded-1a2b3c4d", "candidate", "both", "tuned", 100.1,
        {"iou": 1 / 3, "gain": None}, ("k2", "k1"), ("k1",), reason="made",
    )  # fmt: skip
    for content in (b"\x00first", b"", b"\xff" * 100_000):
        store.prompts.add_prompt(prompt, content, activate=True)
    store.prompts.activate_prompt(project, TARGETS[0], 1, 200.2, "back")


def observed(store: Store) -> list[Any]:
    """All that the contract lets anybody see."""
    seen: list[Any] = [store.projects(), store.pending_events(), store.prompts.tunings()]
    seen += [store.prompts.tuning_state(tuning.id) for tuning in store.prompts.tunings()]
    seen += [store.note("paid:1"), store.note("trouble:look:%3A")]
    for project in (record.key for record in store.projects()):
        pool = store.pool(project)
        seen += [store.approvals(project), store.approvals(project, [7]), pool]
        seen += [store.pool(project, target) for target in TARGETS]
        seen.append(store.examples([info.key for info in pool]))
        seen += [store.predictions(project, task) for task in (7, 8)]
        seen += [store.predicted_tasks(project, revision) for revision in ("r:1", "r2")]
        seen += [store.pushed(project), store.pushed(project, except_revision="r2")]
        seen += [store.frame_before(project, target, "clip:1", 1.0) for target in TARGETS]
        seen += [store.kept(project), store.task_states(project), store.prompts.prompts(project)]
        seen += [store.prompts.prompt_content(project, number) for number in (1, 2, 3)]
    return seen


def dump(path: Path) -> list[str]:
    """Every row of a file but the leases, in no order."""
    with closing(sqlite3.connect(path)) as connection:
        lines = [line for line in connection.iterdump() if line.startswith("INSERT")]
    return sorted(line for line in lines if '"leases"' not in line)


def contents(server: RedisServer, database: int) -> dict[bytes, Any]:
    """Every key of a database but the leases' and the number of the last prediction, which SQLite does not keep."""
    reads = {b"string": "get", b"hash": "hgetall", b"set": "smembers"}
    found: dict[bytes, Any] = {}
    with closing(redis.Redis(port=server.port, db=database, protocol=2)) as client:
        for key in map(bytes, client.keys("*")):  # type: ignore[arg-type]  # redis-py's answers may be texts
            kind = bytes(client.type(key))  # type: ignore[arg-type]
            found[key] = (
                client.zrange(key, 0, -1, withscores=True)
                if kind == b"zset"
                else getattr(client, reads[kind])(key)
            )
    leases = (b"seggpt:leases", b"seggpt:lease-owners", b"seggpt:last-prediction")
    return {key: value for key, value in found.items() if key not in leases}


def copied(source: str | Path, target: str | Path, *, force: bool = False) -> list[Copied]:
    old, new = place(str(source)), place(str(target), made=True)
    with closing(old), closing(new):
        return migrate(old, new, force=force)


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    path = tmp_path / "filled.sqlite3"
    with closing(SqliteStore(path)) as store:
        fill(store)
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.sqlite3"
    with closing(SqliteStore(path)) as store:
        store.set_note("whose", "small")
    return path


@pytest.mark.redis
class TestBothWays:
    def test_from_sqlite_to_redis_and_back_nothing_changes(
        self, filled: Path, redis_server: RedisServer, tmp_path: Path
    ) -> None:
        there = copied(filled, redis_server.url)
        back = copied(redis_server.url, tmp_path / "back.sqlite3")
        assert [one.kind for one in there] == list(KINDS)
        assert there == back
        assert {one.kind for one in there if one.rows == 0} == set()
        with (
            closing(SqliteStore(filled)) as before,
            closing(RedisStore(redis_server.url)) as between,
            closing(SqliteStore(tmp_path / "back.sqlite3")) as after,
        ):
            assert observed(between) == observed(before)
            assert observed(after) == observed(before)
            assert [store.held("") for store in (before, between, after)] == [True, False, False]
        assert dump(tmp_path / "back.sqlite3") == dump(filled)

    def test_from_redis_to_sqlite_and_back_nothing_changes(
        self, redis_server: RedisServer, tmp_path: Path
    ) -> None:
        """Filled through Redis' own methods, so that its indices are compared with those that a copy makes."""
        other = redis_server.url.removesuffix("0") + "1"
        with closing(RedisStore(redis_server.url)) as store:
            fill(store)
        copied(redis_server.url, tmp_path / "store.sqlite3")
        copied(tmp_path / "store.sqlite3", other)
        before, after = contents(redis_server, 0), contents(redis_server, 1)
        assert after.keys() == before.keys()
        assert {key for key in before if after[key] != before[key]} == set()

    @pytest.mark.parametrize("version", sorted(GOLDEN.iterdir()), ids=lambda file: file.stem)
    def test_a_store_of_an_earlier_version_is_brought_up_to_date_and_copied(
        self, redis_server: RedisServer, tmp_path: Path, version: Path
    ) -> None:
        with closing(sqlite3.connect(tmp_path / "old.sqlite3")) as connection:
            connection.executescript(version.read_text(encoding="utf-8"))
        copied(tmp_path / "old.sqlite3", redis_server.url)
        copied(redis_server.url, tmp_path / "new.sqlite3")
        assert dump(tmp_path / "new.sqlite3") == dump(tmp_path / "old.sqlite3")

    def test_more_rows_than_are_copied_at_once_all_arrive(
        self, redis_server: RedisServer, tmp_path: Path
    ) -> None:
        many = 1203
        with closing(SqliteStore(tmp_path / "many.sqlite3")) as store:
            store.set_task_states(TaskState(HERE, task, "done", "", "r1", task / 7) for task in range(many))
            store.add_kept(KeptIoU(HERE, task, task, "Cat", "r1", 0.5, task / 7) for task in range(many))
            for task in range(40):
                store.put_prediction(PredictionRecord(HERE, task, "r1", 1.0, 0.5, {}, {"Cat": b"mask"}))
        rows = {one.kind: one.rows for one in copied(tmp_path / "many.sqlite3", redis_server.url)}
        assert (rows["task_states"], rows["kept"], rows["predicted_masks"]) == (many, many, 40)
        copied(redis_server.url, tmp_path / "back.sqlite3")
        assert dump(tmp_path / "back.sqlite3") == dump(tmp_path / "many.sqlite3")

    def test_the_copy_goes_on_where_the_original_was(self, filled: Path, redis_server: RedisServer) -> None:
        copied(filled, redis_server.url)
        with closing(SqliteStore(filled)) as one, closing(RedisStore(redis_server.url)) as other:
            for store in (one, other):
                store.add_event(HERE, "B", {}, 2.0)
                store.move_generation(HERE)
                store.put_approval(Approval(HERE, 9, 100, "drawn", None, "", "digest"), [])
                store.put_approval(Approval(HERE, 7, 70, "drawn", 5, "2027-01-01", "corrected"), [])
                store.put_prediction(PredictionRecord(HERE, 7, "r2", 300.0, 0.5, {}, {}, 99))
                store.forget_tasks(THERE, [7])
                assert store.prompts.add_tuning(HERE, TARGETS[0], "one is open", 1.0) is None
                assert store.prompts.add_tuning(HERE, TARGETS[1], "by hand", 1.0) is not None
                assert store.prompts.activate_prompt(HERE, TARGETS[0], 3, 400.0, "on") is True
            assert observed(other) == observed(one)


class TestWhatIsCopied:
    def test_every_column_of_every_table_is_but_leases(self, small: Path) -> None:
        """A step of the schema that adds one turns this red until copies know it too."""
        with closing(sqlite3.connect(small)) as connection:
            tables = {
                name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            }
            columns = {
                table: {
                    name: (affinity, int(needed or key > 0))
                    for _, name, affinity, needed, _, key in connection.execute(f"PRAGMA table_info({table})")
                }
                for table in tables - {"sqlite_sequence"}
            }
        kinds = {
            kind: {name: AFFINITY[form] for name, form in forms.items()}
            for kind, forms in KINDS.items()
            if kind != "counters"
        }
        assert columns.pop("leases")
        assert columns == kinds


@pytest.mark.redis
class TestMistakes:
    def test_a_target_that_holds_something_is_left_alone(
        self, filled: Path, small: Path, redis_server: RedisServer
    ) -> None:
        with closing(RedisStore(redis_server.url)) as store:
            store.set_note("whose", "ours")
            before = contents(redis_server, 0)
            with pytest.raises(Refused, match=r"not empty \(1 notes\).*--force"):
                copied(filled, redis_server.url)
            assert contents(redis_server, 0) == before
            with pytest.raises(Refused, match=r"not empty \(1 notes\)"):
                copied(redis_server.url, small)
        with closing(RedisStore(redis_server.url)) as store:
            assert store.note("whose") == "ours"
        with closing(SqliteStore(small)) as kept:
            assert kept.note("whose") == "small"

    def test_by_force_the_target_becomes_the_source_and_other_s_keys_stay(
        self, filled: Path, small: Path, redis_server: RedisServer
    ) -> None:
        with redis_server.client() as client:
            client.set("theirs", "untouched")
        copied(small, redis_server.url)
        copied(filled, redis_server.url, force=True)
        with closing(RedisStore(redis_server.url)) as store, closing(SqliteStore(filled)) as wanted:
            assert store.note("whose") is None
            assert observed(store) == observed(wanted)
        with closing(SqliteStore(small)) as store_of_file:
            store_of_file.acquire("learn:1", "somebody gone", 1000)
            copied(redis_server.url, small, force=True)
            assert store_of_file.held("") is False
        assert dump(small) == dump(filled)
        assert contents(redis_server, 0)[b"theirs"] == b"untouched"

    def test_a_store_is_not_copied_onto_itself_by_another_name(
        self, small: Path, redis_server: RedisServer, tmp_path: Path
    ) -> None:
        copied(small, redis_server.url)
        with pytest.raises(Refused, match="are the same store"):
            copied(redis_server.url, redis_server.url.replace("127.0.0.1", "localhost"), force=True)
        (tmp_path / "link.sqlite3").symlink_to(small)
        with pytest.raises(Refused, match="are the same store"):
            copied(small, tmp_path / "link.sqlite3", force=True)
        with closing(RedisStore(redis_server.url)) as store:
            assert store.note("whose") == "small"

    def test_nothing_is_not_copied_over_something(
        self, small: Path, redis_server: RedisServer, tmp_path: Path
    ) -> None:
        with pytest.raises(Refused, match="nothing in"):
            copied(redis_server.url, small, force=True)
        with pytest.raises(NotFound, match=r"no store .*gone\.sqlite3"):
            copied(tmp_path / "gone.sqlite3", redis_server.url)
        assert not (tmp_path / "gone.sqlite3").exists()

    def test_a_copy_that_was_cut_off_is_no_store_until_it_is_made_again(
        self, filled: Path, small: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        copied(small, redis_server.url)
        with monkeypatch.context() as broken:
            broken.setattr(RedisRows, "write", cut_off(RedisRows.write, "prompts"))
            with pytest.raises(KeyboardInterrupt):
                copied(filled, redis_server.url, force=True)
        with pytest.raises(StoreError, match=r"half a copy.* --force"):
            RedisStore(redis_server.url)
        with pytest.raises(StoreError, match="half a copy"):
            copied(redis_server.url, small, force=True)
        copied(filled, redis_server.url, force=True)
        with closing(RedisStore(redis_server.url)) as store, closing(SqliteStore(filled)) as wanted:
            assert observed(store) == observed(wanted)

    def test_a_copy_into_a_file_that_was_cut_off_changed_nothing(
        self, filled: Path, small: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        copied(filled, redis_server.url)
        before = dump(small)
        monkeypatch.setattr(RedisRows, "read", cut_off(RedisRows.read, "prompts"))
        with pytest.raises(KeyboardInterrupt):
            copied(redis_server.url, small, force=True)
        assert dump(small) == before

    def test_a_copy_that_differs_is_found_out(
        self, filled: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = RedisRows.write

        def change_one(self: RedisRows, kind: str, rows: Iterable[Any]) -> None:
            later = [
                {**row, "iou": 0.5} if row.get("annotation") == 70 and "iou" in row else row for row in rows
            ]
            write(self, kind, later)

        monkeypatch.setattr(RedisRows, "write", change_one)
        with pytest.raises(StoreError, match=r"copy of kept is not equal: 4 rows \(\w+\) became 4 \(\w+\)"):
            copied(filled, redis_server.url)


def cut_off(method: Any, at: str) -> Any:
    def until(self: RedisRows, kind: str, *arguments: Any) -> Any:
        if kind == at:
            raise KeyboardInterrupt
        return method(self, kind, *arguments)

    return until
