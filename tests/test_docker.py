"""Containers, as far as they can be looked at without a container engine: files that must agree, steps that run."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml  # type: ignore[import-untyped]
from pydantic import SecretStr

from backend.demo.process import free_port
from backend.settings import Settings
from tests.backend.loopback import FakeBucket
from tests.backend.redis_server import RedisServer

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
PASSWORD = "a-secret"  # noqa: S105  # of a server that only this test reaches
OVERRIDES = ("compose.gpu.yaml", "compose.prometheus.yaml")
SETTINGS = {str(field.alias or name).upper(): field for name, field in Settings.model_fields.items()}
SECRETS = {name for name, field in SETTINGS.items() if isinstance(field.default, SecretStr)}
# What the containers know besides settings of the backend.
OF_COMPOSE = {
    "LABEL_STUDIO_USERNAME",
    "LABEL_STUDIO_PASSWORD",
    "REDIS_PASSWORD",
    "LABEL_STUDIO_PORT",
    "LABEL_STUDIO_HOST",
    "CSRF_TRUSTED_ORIGINS",
    "PORT_ON_THIS_MACHINE",
    "BACKEND_MEMORY",
    "WORKER_MEMORY",
    "LABEL_STUDIO_MEMORY",
    "REDIS_MEMORY",
    "TORCH_INDEX",
    "OMP_NUM_THREADS",
}
ASKED = re.compile(r"(?<!\$)\$\{(\w+)(?:(:[-?])([^}]*))?\}")


def compose(name: str = "compose.yaml") -> Any:
    return yaml.safe_load((DOCKER / name).read_text(encoding="utf-8"))


def services() -> dict[str, Any]:
    return dict(compose()["services"])


def run(command: list[str], **environment: str) -> "subprocess.CompletedProcess[str]":
    whole = {**os.environ, **environment}
    return subprocess.run(command, env=whole, check=False, capture_output=True, text=True, timeout=600)  # noqa: S603


def env_example() -> dict[str, str]:
    """Names and values of .env.example, those that are commented out too."""
    lines = (DOCKER / ".env.example").read_text(encoding="utf-8").splitlines()
    found = (re.match(r"(?:# )?([A-Z_]+)=(.*)$", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


def dockerfile() -> list[tuple[str, str]]:
    """Instructions and what follows them, continued lines as one."""
    text = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    parts = (line.partition(" ") for line in text.splitlines() if line.strip())
    return [(instruction, rest.strip()) for instruction, _, rest in parts]


def stage(name: str) -> list[tuple[str, str]]:
    lines = dockerfile()
    begin = next(
        number for number, line in enumerate(lines) if line[0] == "FROM" and line[1].endswith(f" AS {name}")
    )
    following = (number for number, line in enumerate(lines[begin + 1 :], begin + 1) if line[0] == "FROM")
    return lines[begin + 1 : next(following, len(lines))]


def reaches_the_builder(path: str) -> bool:
    """Docker's rule: of the lines that match the path, or a folder that it is in, the last one decides."""
    folders = [path, *map(str, Path(path).parents)][:-1]
    kept = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.removeprefix("!").strip()
        anywhere = pattern.removeprefix("**/")
        found = any(
            fnmatch(folder, pattern) or (anywhere != pattern and fnmatch(Path(folder).name, anywhere))
            for folder in folders
            if pattern == "*" or folder.count("/") == pattern.count("/") or anywhere != pattern
        )
        if pattern and not pattern.startswith("#") and found:
            kept = line.startswith("!")
    return kept


# -- the compose files ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["compose.yaml", *OVERRIDES])
def test_a_compose_file_fits_the_specification(name: str) -> None:
    """By compose-spec, which knows every key; names are filled in first, and what a file lies over is added."""
    compose_spec = pytest.importorskip("compose_spec")
    whole = compose(name)
    if name in OVERRIDES:
        whole["networks"] = compose()["networks"]
    text = ASKED.sub(lambda asked: asked[3] if asked[2] == ":-" else "x", json.dumps(whole))
    compose_spec.PyCompose.from_yaml(text).validate()


def test_every_name_that_compose_asks_for_is_in_the_example() -> None:
    asked = {name for name, _, _ in ASKED.findall((DOCKER / "compose.yaml").read_text(encoding="utf-8"))}
    passed_on = {name for name, value in compose()["x-settings"].items() if value is None}
    passed_on |= {name for name, value in services()["label-studio"]["environment"].items() if value is None}
    passed_on |= set(compose()["x-backend"]["build"]["args"])
    assert set(env_example()) == asked | passed_on


def test_what_the_example_says_a_setting_is_without_it_is_so() -> None:
    said = {
        name: value
        for name, value in env_example().items()
        if name in SETTINGS and value and name != "WORKER_METRICS_PORT"  # a port to take, where one is wanted
    }
    assert len(said) > 20
    given: dict[str, Any] = {name.lower(): value for name, value in said.items()}
    assert Settings(_env_file=None, **given) == Settings(_env_file=None)


def test_every_setting_that_is_named_exists() -> None:
    assert set(compose()["x-settings"]) - {"OMP_NUM_THREADS"} <= set(SETTINGS)
    assert set(env_example()) - OF_COMPOSE <= set(SETTINGS)
    assert OF_COMPOSE.isdisjoint(SETTINGS)


def test_every_setting_can_be_set_but_those_that_the_containers_fix() -> None:
    fixed = {"BACKEND_HOST", "PORT", "DATA_DIR", "LOCAL_FILES_ROOT"}
    assert set(SETTINGS) - set(compose()["x-settings"]) == fixed


def test_backend_and_worker_have_the_same_settings() -> None:
    assert services()["backend"]["environment"] == services()["worker"]["environment"]


def test_no_secret_has_a_value_and_what_must_be_set_stops_the_start() -> None:
    secrets = (SECRETS & set(env_example())) | {name for name in OF_COMPOSE if name.endswith("PASSWORD")}
    assert {name: env_example()[name] for name in secrets if env_example()[name]} == {}
    text = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
    found = [asked for asked in ASKED.findall(text) if asked[0] in secrets | {"BASIC_AUTH_USER"}]
    assert {name for name, _, _ in found} == secrets | {"BASIC_AUTH_USER"}
    # Without ADMIN_TOKEN the admin API answers loopback only: that is off, not open.
    assert {name for name, how, said in found if how != ":?" or not said} == {"ADMIN_TOKEN"}


def test_label_studio_is_the_version_that_the_tests_run() -> None:
    pinned = re.search(
        r"^label-studio==(\S+)", (ROOT / "requirements-label-studio.txt").read_text(encoding="utf-8"), re.M
    )
    assert pinned is not None
    assert services()["label-studio"]["image"] == f"heartexlabs/label-studio:{pinned[1]}"


def test_only_label_studio_is_published_beyond_this_machine() -> None:
    published = {name: port for name, service in services().items() for port in service.get("ports", [])} | {
        "prometheus": compose("compose.prometheus.yaml")["services"]["prometheus"]["ports"][0]
    }
    assert {name for name, port in published.items() if not port.startswith("127.0.0.1:")} == {"label-studio"}


def test_redis_is_reached_by_backend_and_worker_only() -> None:
    with_redis = {name for name, service in services().items() if "store" in service["networks"]}
    assert with_redis == {"redis", "backend", "worker"}
    assert services()["redis"]["networks"] == ["store"]
    assert compose()["networks"]["store"] == {"internal": True}


def test_every_container_comes_back_and_ours_can_change_nothing() -> None:
    for name, service in services().items():
        assert service["restart"] == "unless-stopped", name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "mem_limit" in service, name
        if name != "label-studio":
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"], name


def test_every_file_that_is_mounted_exists() -> None:
    mounted = [
        volume.split(":")[0]
        for file in ("compose.yaml", "compose.prometheus.yaml")
        for service in compose(file)["services"].values()
        for volume in service.get("volumes", [])
        if volume.startswith("./")
    ]
    assert mounted
    assert [path for path in mounted if not (DOCKER / path).is_file()] == []


def test_linters_find_nothing() -> None:
    yamllint = pytest.importorskip("yamllint")
    rules = "{extends: default, rules: {document-start: disable, line-length: {max: 120}}}"
    files = [str(path) for pattern in ("*.yaml", "prometheus/*.yml") for path in DOCKER.glob(pattern)]
    said = run([sys.executable, "-m", yamllint.__name__, "--config-data", rules, "--strict", *files])
    assert (said.returncode, said.stdout) == (0, "")

    hadolint = shutil.which(
        "hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    if hadolint is None:
        pytest.skip("no hadolint")
    said = run([hadolint, str(DOCKER / "Dockerfile")])
    assert (said.returncode, said.stdout) == (0, "")


# -- the image -----------------------------------------------------------------------------------------------------
def test_every_copied_path_exists_and_reaches_the_builder() -> None:
    copied = [
        rest.split()[0] for instruction, rest in dockerfile() if instruction == "COPY" and "--" not in rest
    ]
    assert set(copied) == {"requirements.txt", "model", "backend"}
    assert [path for path in copied if not (ROOT / path).exists() or not reaches_the_builder(path)] == []


@pytest.mark.parametrize(
    "path", ["backend/app.py", "backend/store/redis.py", "model/weights/embedded.safetensors"]
)
def test_what_the_backend_needs_reaches_the_builder(path: str) -> None:
    assert (ROOT / path).is_file()
    assert reaches_the_builder(path)


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        "docker/.env",
        "backend/.env",
        ".git/config",
        ".venv/bin/python",
        ".venv-label-studio/bin/python",
        "data/store.sqlite3",
        ".demo/token",
        ".cache/pytest/README.md",
        ".hypothesis/examples/1",
        "tests/conftest.py",
        "backend/__pycache__/app.cpython-311.pyc",
        "model/pretraining/training.py",
    ],
)
def test_what_is_private_or_of_no_use_never_reaches_the_builder(path: str) -> None:
    assert not reaches_the_builder(path)


@pytest.mark.parametrize(("target", "compilers"), [("cpu", []), ("cuda", ["gcc"])])
def test_an_image_runs_without_rights_and_with_a_compiler_only_for_the_card_s_kernel(
    target: str, compilers: list[str]
) -> None:
    whole = [*stage("base"), *stage(target)]
    assert [rest for instruction, rest in whole if instruction == "USER"] == ["10001:10001"]
    assert whole[-1][0] == "USER"
    commands = " ".join(rest for instruction, rest in whole if instruction == "RUN")
    assert re.findall(r"\b(gcc|g\+\+|clang|make|build-essential)\b", commands) == compilers
    assert commands.count("pip install") == commands.count("--only-binary :all:") == 2


def test_what_changes_least_comes_first() -> None:
    copied = [rest for instruction, rest in stage("cpu") if instruction == "COPY"]
    assert copied == [
        "--from=pins /pins/torch.txt /pins/torch.txt",
        "requirements.txt /pins/requirements.txt",
        "model model",
        "backend backend",
    ]
    # Both images have the same steps; only where PyTorch comes from differs, and the compiler.
    steps = [
        [line for line in stage(name) if line[0] in {"COPY", "RUN", "USER"} and "apt-get" not in line[1]]
        for name in ("cpu", "cuda")
    ]
    assert steps[0] == steps[1]


def test_the_pin_of_pytorch_is_one_line() -> None:
    pins = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert len([line for line in pins if line.startswith("torch==")]) == 1
    assert ("RUN", "grep '^torch==' requirements.txt > torch.txt") in stage("pins")


def test_python_is_process_one_and_the_port_is_the_backend_s() -> None:
    said = dict(stage("base"))
    assert json.loads(said["ENTRYPOINT"]) == ["python", "-m", "backend"]
    assert json.loads(said["CMD"]) == ["serve", "--host", "0.0.0.0"]  # noqa: S104  # inside of a container
    assert int(said["EXPOSE"]) == SETTINGS["PORT"].default
    balancer = (DOCKER / "haproxy.cfg").read_text(encoding="utf-8")
    assert f"server-template replica 16 backend:{SETTINGS['PORT'].default}" in balancer
    assert "OMP_WAIT_POLICY=PASSIVE" in said["ENV"]
    assert "PYTHONDONTWRITEBYTECODE=1" in said["ENV"]


def test_the_balancer_waits_longer_than_a_prediction_may_take() -> None:
    waits = re.search(r"timeout server (\d+)s", (DOCKER / "haproxy.cfg").read_text(encoding="utf-8"))
    assert waits is not None
    assert int(waits[1]) > max(100, SETTINGS["PREDICT_DEADLINE"].default)  # 100 s is Label Studio's own


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_asks_the_port_itself_whatever_proxy_is_named(status: int, healthy: bool) -> None:
    with FakeBucket() as server:
        server.put("/health", b"{}", status)
        port = server.url.rpartition(":")[2]
        assert health_check(PORT=port, http_proxy="http://127.0.0.1:9") is healthy
    assert health_check(PORT=port) is False


def health_check(**environment: str) -> bool:
    said = dict(stage("base"))["HEALTHCHECK"]
    command = json.loads(said[said.index("[") :])
    assert command[0] == "python"
    return run([sys.executable, *command[1:]], **environment).returncode == 0


# -- Redis ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def redis_conf(redis_installed: None) -> dict[str, str]:
    """docker/redis.conf as options."""
    lines = (DOCKER / "redis.conf").read_text(encoding="utf-8").splitlines()
    return dict(line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))


@pytest.mark.redis
def test_a_snapshot_is_restored_where_a_copy_alone_would_be_ignored(
    tmp_path: Path, redis_conf: dict[str, str]
) -> None:
    with RedisServer(tmp_path / "old", **redis_conf) as old, old.client() as client:
        client.mset({"seggpt:a": "1", "seggpt:b": "2"})
        client.save()
    snapshot = tmp_path / "old" / "dump.rdb"

    copied = tmp_path / "copied"
    copied.mkdir()
    shutil.copy(snapshot, copied / "dump.rdb")
    with RedisServer(copied, **redis_conf) as server, server.client() as client:
        assert client.dbsize() == 0

    said = restore(snapshot, copied)
    assert said.stdout == "restored: 2 keys\n", said.stderr
    with RedisServer(copied, **redis_conf) as server, server.client() as client:
        assert client.mget("seggpt:a", "seggpt:b") == [b"1", b"2"]

    damaged = tmp_path / "damaged.rdb"
    damaged.write_bytes(snapshot.read_bytes()[:20])
    assert restore(damaged, copied).returncode != 0
    with RedisServer(copied, **redis_conf) as server, server.client() as client:
        assert client.dbsize() == 2


def restore(snapshot: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    return run(["sh", str(DOCKER / "restore-redis.sh"), str(snapshot), str(folder), str(free_port())])


@pytest.mark.redis
def test_redis_starts_as_compose_starts_it_and_wants_its_password(
    tmp_path: Path, redis_conf: dict[str, str]
) -> None:
    """The password comes from the environment and is among no process's arguments."""
    port = free_port()
    shell, option, script = services()["redis"]["command"]
    script = script.replace("$$", "$").replace("/usr/local/etc/redis", str(DOCKER))
    script = script.replace("dir /data", f"dir {tmp_path}\nport {port}\nbind 127.0.0.1\nlogfile redis.log")
    environment = {**os.environ, "REDIS_PASSWORD": PASSWORD}
    server = subprocess.Popen([shell, option, script], env=environment)  # noqa: S603  # our own words
    try:
        with redis.Redis(port=port, password=PASSWORD, protocol=2) as client:
            eventually_answers(client)
            assert {name: client.config_get(name)[name] for name in redis_conf} == {
                **redis_conf,
                "maxmemory": str(2**30),
            }
        with redis.Redis(port=port, protocol=2) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        arguments = run(["ps", "-o", "args=", "-p", str(server.pid)]).stdout
        assert "redis-server" in arguments
        assert PASSWORD not in arguments
    finally:
        server.terminate()
        server.wait()


def eventually_answers(client: "redis.Redis") -> None:
    for _ in range(6000):
        try:
            client.ping()
        except redis.ConnectionError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("no answer")
