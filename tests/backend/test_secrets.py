"""Secrets stay where they belong: everything that a run of the recorded requests wrote is searched for them."""

import base64
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from backend.cli import main
from backend.doctor import examine
from backend.settings import Settings
from tests.backend.attacks.fuzzing import REQUESTS
from tests.backend.fake_label_studio import FakeLabelStudio
from tests.backend.loopback import Answer, FakeBucket
from tests.backend.redis_server import RedisServer
from tests.backend.served import until
from tests.backend.stage import INVITE_TOKEN, STORAGE_PASSWORD, Stage, blob, brush, png
from tests.backend.worker_process import Worker

Staging = Callable[..., Stage]
BASIC_PASSWORD, ADMIN_TOKEN, REDIS_PASSWORD = "basic-pass-4711", "admin-token-4711", "redis/pass@4711"
WRONG_PASSWORD, STORAGE_LOGIN, SIGNATURE = "wrong-pass-4711", "storage-login-77", "signature-of-4711"
OTHER_TOKEN = "fedcba9876543210" * 2 + "76543210"  # what `/setup` brings; a default install refuses it
BASIC = {"Authorization": "Basic " + base64.b64encode(f"label:{BASIC_PASSWORD}".encode()).decode()}
ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
IN_PAYLOADS = {
    "token": INVITE_TOKEN,
    "access_token": OTHER_TOKEN,
    "task_data_login": STORAGE_LOGIN,
    "task_data_password": STORAGE_PASSWORD,
    "login": STORAGE_LOGIN,
    "password": STORAGE_PASSWORD,
}
SECRETS = [*IN_PAYLOADS.values(), BASIC_PASSWORD, ADMIN_TOKEN, REDIS_PASSWORD, WRONG_PASSWORD]


def told(value: Any) -> Any:
    """A recorded body with secrets where Label Studio has them; they were taken out when it was recorded."""
    if isinstance(value, dict):
        return {name: IN_PAYLOADS.get(name, told(item)) for name, item in value.items()}
    return [told(item) for item in value] if isinstance(value, list) else value


def spellings(secret: str) -> set[str]:
    """How a secret may be written."""
    inside = {base64.b64encode(text.encode()).decode() for text in (secret, f"label:{secret}", f":{secret}")}
    return {secret, quote(secret, safe=""), json.dumps(secret)[1:-1], *inside}


class Witness:
    """Collects what was written, and says where a secret is found."""

    def __init__(self, log: pytest.LogCaptureFixture) -> None:
        self._log = log
        self.answers: list[str] = []

    def ask(self, stage: Stage, method: str, path: str, **options: Any) -> str:
        answer = stage.client.request(method, path, **options)
        text = f"{path} {answer.status_code} {dict(answer.headers)} {answer.text}"
        self.answers.append(text)
        return text

    @property
    def logged(self) -> str:
        kept = (
            f"{record.name} {record.getMessage()} {record.exc_text or ''}" for record in self._log.records
        )
        return "\n".join(kept)

    def search(self, secrets: list[str], *folders: Path) -> list[str]:
        """Where a secret is, without the secret."""
        places = {"log": self.logged.encode(), "answers": "\n".join(self.answers).encode()}
        for folder in folders:
            files = [file for file in folder.rglob("*") if file.is_file()]
            places |= {file.name: file.read_bytes() for file in files}
        return [
            f"secret {number} in {place}"
            for number, secret in enumerate(secrets)
            for place, content in places.items()
            if any(spelling.encode() in content for spelling in spellings(secret))
        ]


@pytest.fixture
def witness(caplog: pytest.LogCaptureFixture) -> Witness:
    caplog.set_level(logging.DEBUG)
    return Witness(caplog)


def replay(stage: Stage, witness: Witness) -> None:
    """What Label Studio sent, what people ask the admin API for, and what goes wrong."""
    fake = stage.label_studio
    fake.tasks[1000] = {"id": 1000, "project": stage.project, "data": {}, "updated_at": ""}
    stage.approve(1)
    for request in REQUESTS:
        witness.ask(stage, request["method"], request["path"], json=told(request.get("body")))
        witness.ask(
            stage, request["method"], request["path"], content=json.dumps(told(request.get("body")))[:-1]
        )
    stage.work(later=True)
    missing = fake.add_task(stage.project, image="/data/upload/gone.png")
    witness.answers.append(stage.ask(missing, *stage.blobs(1, first=2)).text)
    for path in ("/versions", "/setup", "/api/projects"):
        refused = {"Authorization": f"Basic {WRONG_PASSWORD}"}
        witness.ask(stage, "GET" if path != "/setup" else "POST", path, headers=refused, json={})
    witness.ask(
        stage, "POST", "/setup", json={"access_token": OTHER_TOKEN, "project": {"token": INVITE_TOKEN}}
    )
    project = f"/api/projects/{stage.key}"
    for page in (
        "",
        "/tasks",
        f"/tasks/{missing}/predictions",
        "/examples",
        "/alarm",
        "/tunings",
        "/prompts",
    ):
        assert " 200 " in witness.ask(stage, "GET", project + page, headers=ADMIN)
    assert " 202 " in witness.ask(stage, "POST", f"{project}/tunings", headers=ADMIN)
    stage.tune()
    for path in ("/metrics", "/health", "/versions", "/openapi.json", "/api/projects/7"):
        witness.ask(stage, "GET", path, headers=ADMIN if path.startswith("/api") else BASIC)
    witness.answers += [str(finding) for finding in examine(stage.settings)]
    witness.answers += [repr(stage.settings), repr(stage.backend.label_studio)]


def guarded(staging: Staging, **fields: Any) -> Stage:
    stage = staging(
        **{"basic_auth_user": "label", "basic_auth_pass": BASIC_PASSWORD, "admin_token": ADMIN_TOKEN} | fields
    )
    stage.client.headers.update(BASIC)
    return stage


def test_the_recorded_requests_hold_the_secrets_that_are_searched_for() -> None:
    sent = json.dumps([told(request.get("body")) for request in REQUESTS])
    for secret in IN_PAYLOADS.values():
        assert secret in sent


@pytest.mark.parametrize("kind", ["legacy", "personal"])
def test_secrets_reach_neither_log_nor_disk_nor_figures_nor_answers(
    staging: Staging, fake_label_studio: FakeLabelStudio, witness: Witness, kind: str
) -> None:
    fake = fake_label_studio
    fake.legacy_allowed = kind == "legacy"
    fake.access_seconds = 1  # so that several are exchanged
    token = fake.legacy_token if kind == "legacy" else fake.personal_token
    stage = guarded(staging, label_studio_api_key=token)
    replay(stage, witness)
    fake.legacy_allowed = False  # and then it is refused
    fake.personal_token = "another"  # noqa: S105 - no secret
    fake.revoke_access_tokens()
    stage.submit(stage.upload(blob(3)[0]), brush(blob(3)[1]))
    stage.event("START_TRAINING")
    stage.jobs.reconcile(stage.key)
    stage.work()
    assert "Label Studio refused the" in witness.logged
    access = [json.loads(request.body) for request in fake.requests if request.path == "/api/token/refresh/"]
    assert bool(access) == (kind == "personal")
    exchanged = {
        str(request.authorization).partition(" ")[2] for request in fake.requests if request.authorization
    }
    assert witness.search([*SECRETS, token, *sorted(exchanged)], stage.settings.data_dir) == []
    files = {file.name: file.stat().st_size for file in stage.settings.data_dir.rglob("*")}
    assert {"store.sqlite3", "store.sqlite3-wal", "queue.sqlite3"} <= set(files)
    assert sum(files.values()) > 10_000


def test_a_signed_address_is_neither_logged_nor_answered(
    staging: Staging, bucket: FakeBucket, witness: Witness
) -> None:
    stage = guarded(staging, allowed_hosts=("127.0.0.1",))
    stage.approve(1)
    for status in (200, 403):
        address = bucket.put(f"/{status}.png", png(blob(2)[0]), status) + f"?X-Amz-Signature={SIGNATURE}"
        witness.answers.append(stage.ask(stage.label_studio.add_task(stage.project, image=address)).text)
    stage.work(later=True)
    witness.ask(stage, "GET", f"/api/projects/{stage.key}/tasks", headers=ADMIN)
    assert "answered 403" in "".join(witness.answers)
    assert witness.search([SIGNATURE]) == []


def test_the_password_of_a_redis_that_refuses_or_is_away_is_shown_nowhere(
    witness: Witness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    for place in (
        "127.0.0.1:9/0",
        "127.0.0.1:9/x",
        "127.0.0.1:port/0",
        "[::1/0",
        "127.0.0.1:9/0?sentinel_password=x",
    ):
        for scheme in ("redis", "rediss", "redis+sentinel", "rediz"):
            url = f"{scheme}://label:{quote(REDIS_PASSWORD, safe='')}@{place}"
            monkeypatch.setenv("REDIS_URL", url)
            for command in ("doctor", "sync", "examples list"):
                monkeypatch.setattr(sys, "argv", ["backend", *command.split()])
                with pytest.raises(SystemExit) as ended:
                    main()
                assert ended.value.code
    said = capsys.readouterr()
    witness.answers += [said.out, said.err]
    assert "Redis" in said.out + said.err
    assert witness.search([REDIS_PASSWORD], tmp_path) == []


@pytest.mark.parametrize("scheme", ["redis", "redis+sentinel"])
def test_a_worker_that_waits_for_redis_says_so_in_short_and_without_its_password(
    scheme: str, tmp_path: Path, checkpoint_file: Path
) -> None:
    url = f"{scheme}://label:{quote(REDIS_PASSWORD, safe='')}@127.0.0.1:9/0"
    settings = Settings(data_dir=tmp_path, checkpoint=str(checkpoint_file), redis_url=SecretStr(url))
    worker = Worker(settings, tmp_path / "log")
    until(lambda: "the queue cannot be used" in worker.said)
    assert worker.stop() == 0
    assert quote(REDIS_PASSWORD, safe="") not in worker.said
    assert REDIS_PASSWORD not in worker.said
    assert "Connection(" not in worker.said


@pytest.mark.redis
def test_on_a_redis_with_a_password_secrets_are_neither_in_it_nor_in_what_waits_for_it(
    staging: Staging, witness: Witness, tmp_path: Path, redis_installed: None
) -> None:
    with RedisServer(tmp_path / "redis", requirepass=REDIS_PASSWORD) as server:
        url = server.url.replace("//", f"//:{quote(REDIS_PASSWORD, safe='')}@")
        stage = guarded(staging, redis_url=url)
        replay(stage, witness)
        server.kill()
        for request in REQUESTS:
            witness.ask(stage, request["method"], request["path"], json=told(request.get("body")))
        for path in ("/health", "/metrics", "/versions"):
            witness.ask(stage, "GET", path)
        witness.answers += [str(finding) for finding in examine(stage.settings)]
        assert stage.app.state.delivery.waiting
        assert "the store is away" in witness.logged
        kept = server.folder / "appendonlydir"
        assert sum(file.stat().st_size for file in kept.rglob("*")) > 10_000
        exposed = witness.search([*SECRETS, stage.label_studio.legacy_token], kept, stage.settings.data_dir)
        assert exposed == []


def test_the_search_finds_a_secret_however_it_is_written(witness: Witness, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x" + quote(REDIS_PASSWORD, safe=""))
    logging.getLogger("anywhere").debug("sent %s", BASIC["Authorization"])
    witness.answers.append(f'{{"detail": "{INVITE_TOKEN}"}}')
    found = witness.search([REDIS_PASSWORD, BASIC_PASSWORD, INVITE_TOKEN], tmp_path)
    assert found == ["secret 0 in file", "secret 1 in log", "secret 2 in answers"]


def test_an_image_that_label_studio_refuses_is_told_without_the_token(
    staging: Staging, witness: Witness
) -> None:
    stage = guarded(staging)
    stage.approve(1)
    token = stage.label_studio.legacy_token
    stage.label_studio.failures.append(
        Answer(401, json.dumps({"detail": f"Invalid token {token}."}).encode())
    )
    witness.answers.append(stage.ask(*stage.blobs(1, first=2)).text)
    witness.ask(stage, "GET", f"/api/projects/{stage.key}/tasks", headers=ADMIN)
    assert "Invalid token" in "".join(witness.answers)
    assert witness.search([token], stage.settings.data_dir) == []
