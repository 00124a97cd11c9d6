"""The commands that README.md and docs/*.md tell people to type, and why some of them run elsewhere."""

import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOG = ROOT / "docs" / "log.md"  # tells what was run on some day; nobody is to type it again
PAGES = [ROOT / "README.md", *(page for page in sorted((ROOT / "docs").glob("*.md")) if page != LOG)]

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(
    r"`((?:[A-Z_]+=\S+ )*(?:(?:\.venv/bin/)?python -m (?:backend|model)\b|make [a-z])[^`]*)`"
)
_SHELL = {"", "sh", "bash", "console"}

NO_COMMANDS = {
    "model/": "the tree of the code",
    "[Unit]": "a unit of systemd",
    "server {": "a configuration of nginx",
    "- job_name: seggpt-worker": "a configuration of Prometheus",
    "images/": "the tree of an export",
}
"""First words of blocks that are no commands; a block that is not named here is taken for commands."""

NAMES_OF_FAMILIES = {
    "python -m backend",
    ".venv/bin/python -m backend",
    ".venv/bin/python -m backend COMMAND",
}
"""Inline texts that stand for all commands."""


def commands() -> dict[str, set[str]]:
    """Every command of the pages, in blocks and in running text, by the names of the pages that have it."""
    found: dict[str, set[str]] = defaultdict(set)
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in blocks(text):
            for line in _lines(block):
                found[line].add(page.name)
        for match in _INLINE.finditer(_FENCE.sub("", text)):
            command = " ".join(match[1].split())
            if command not in NAMES_OF_FAMILIES:
                found[command].add(page.name)
    return found


def benchmark(command: str) -> Path | None:
    """The file that runs a benchmark, if a command does: figures of an idle machine, minutes or hours, and no test."""
    if command.startswith("make bench"):
        return ROOT / "Makefile"
    found = re.fullmatch(r"(?:[A-Z_]+=\S+ )*\.venv/bin/python (benchmarks/\w+\.py)(?: .*)?", command)
    return ROOT / found[1] if found else None


def blocks(text: str) -> list[str]:
    """The blocks of a page that hold commands."""
    shell = [match[3] for match in _FENCE.finditer(text) if match[2] in _SHELL]
    return [block for block in shell if _first(block) not in NO_COMMANDS]


def other_blocks() -> set[str]:
    """How the blocks that hold no commands begin."""
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    shell = [match[3] for text in texts for match in _FENCE.finditer(text) if match[2] in _SHELL]
    return {_first(block) for block in shell} & set(NO_COMMANDS)


def _first(block: str) -> str:
    line = block.strip().splitlines()[0].strip()
    return line.split("  ")[0].strip()


def _lines(block: str) -> list[str]:
    joined = re.sub(r"\\\n\s*", "", block)
    return [re.sub(r"\s+#.*", "", line).strip() for line in joined.splitlines() if line.strip()]


_INSTALLS = "installs everything anew, PyTorch included; CI does it with the Makefile"
_DEMO = "two servers that stay up; tests/label_studio/test_demo_run.py starts it by python -m backend.demo"
_WEIGHTS = "fetches 1.5 GB of weights"
_FOR_LONG = "runs for long; tests/backend/test_cli_processes.py starts it"
_CONTAINERS = (
    "needs a container engine; docker/README.md says what was tried, tests/test_docker.py reads the files"
)
_ALL_TESTS = "all tests; this is one of them"
_BENCHMARKS = "needs weights and data; tests/backend/test_cli_protocols.py runs it on tiny trees"
_LABEL_STUDIO = "tests/label_studio/test_order_of_work.py types it to a real Label Studio"
_REDIS = "needs a Redis; tests/backend/test_cli_store.py migrates both ways"

ELSEWHERE = {
    **{
        f"CHECKPOINT=BAAI/seggpt-vit-large .venv/bin/python -m backend evaluate {arguments}": _BENCHMARKS
        for arguments in (
            "COCO2014 --protocol coco20i",
            "VOC2012 --protocol pascal5i",
            "FSS-1000 --protocol fss1000",
            "DAVIS --protocol davis2017",
        )
    },
    "curl -X POST http://localhost:8080/api/token/refresh/ -H 'Content-Type: application/json' "
    '-d \'{"refresh": "PERSONAL_TOKEN"}\'': _LABEL_STUDIO,
    "curl -X PATCH http://localhost:8080/api/projects/1/ -H 'Authorization: Bearer ACCESS' "
    "-H 'Content-Type: application/json' -d '{\"sampling\": \"Uncertainty sampling\"}'": _LABEL_STUDIO,
    "make run": _DEMO,
    'make run ARGS="--port 9091 --label-studio-port 8081"': _DEMO,
    "make run PYTHON=python3.12": _INSTALLS,
    "make run TORCH_INDEX=URL": _INSTALLS,
    "make test": _ALL_TESTS,
    "PYTHONPATH=. .venv/bin/python docs/images/admin_page.py": "starts a server, a worker and a browser for minutes; "
    "test_page_in_a_browser.py does the same",
    "make imports": "CI runs it in make check",
    "LABEL_STUDIO_URL=http://localhost:8080 LABEL_STUDIO_API_KEY=... make run": _DEMO,
    "LABEL_STUDIO_URL=https://labels.example.org LABEL_STUDIO_API_KEY=... BACKEND_HOST=0.0.0.0 make run": _DEMO,
    "LABEL_STUDIO_URL=https://labels.example.org LABEL_STUDIO_API_KEY=... "
    "CHECKPOINT=BAAI/seggpt-vit-large BACKEND_HOST=0.0.0.0 make run": _WEIGHTS,
    "CHECKPOINT=BAAI/seggpt-vit-large make run": _WEIGHTS,
    "python3.11 -m venv .venv-playground": _INSTALLS,
    ".venv-playground/bin/python -m pip install -r requirements-playground.txt": _INSTALLS,
    ".venv-playground/bin/python -m backend playground": "needs Gradio; tests/backend/test_playground.py starts it where it is",
    ".venv/bin/python -m model.pretraining": "fetches packages and trains for hours; --help is run",
    ".venv/bin/python -m backend serve --host 0.0.0.0": _FOR_LONG,
    "python -m backend serve --host 0.0.0.0": _FOR_LONG,
    "python -m backend worker": _FOR_LONG,
    "python3.11 -m venv .venv && .venv/bin/python -m pip install -r requirements.txt": _INSTALLS,
    "REDIS_URL=redis://:PASSWORD@HOST:6379/0 .venv/bin/python -m backend store migrate --from data/store.sqlite3": _REDIS,
    "python -m backend store migrate": _REDIS,
    "cd docker": _CONTAINERS,
    "docker compose exec redis sh -c 'REDISCLI_AUTH=\"$REDIS_PASSWORD\" redis-cli bgsave'": _CONTAINERS,
    "docker compose exec redis sh -c 'REDISCLI_AUTH=\"$REDIS_PASSWORD\" redis-cli info persistence' | grep rdb_": _CONTAINERS,
    "docker compose cp redis:/data/dump.rdb backup.rdb": _CONTAINERS,
    "docker compose down": _CONTAINERS,
    'docker compose run --rm --no-deps --volume "$PWD/restore-redis.sh:/restore.sh:ro" '
    '--volume "$PWD/backup.rdb:/backup.rdb:ro" redis sh /restore.sh': _CONTAINERS,
    "docker compose up --detach": _CONTAINERS,
    "pip install label-studio-ml==1.0.9 redis rq": "tests/backend/test_ml_base_adapter.py installs them",
    "label-studio-ml init my_backend --script PATH/backend/ml_base_adapter.py:SegGPTBackend": "tests/backend/test_ml_base_adapter.py runs it",
    "SEGGPT_URL=http://127.0.0.1:9091 label-studio-ml start my_backend --port 9090": "tests/backend/test_ml_base_adapter.py runs it",
    "LABEL_STUDIO_URL=http://localhost:8080 LABEL_STUDIO_API_KEY=... PORT=9091 .venv/bin/python -m backend serve": _FOR_LONG,
}
"""Commands that no test can run as they stand, and the reason; each is checked as far as it can be."""

RUN = {
    ".venv/bin/python -m backend doctor --project 1": (1, "not connected"),
    ".venv/bin/python -m backend doctor --project N": (1, "not connected"),
    ".venv/bin/python -m backend doctor": (1, "not connected"),
    "python -m backend doctor": (1, "not connected"),
    ".venv/bin/python -m backend sync": (0, "not readable"),
    "python -m backend sync": (0, "not readable"),
    "python -m backend sync PROJECT": (0, "not readable"),
    "python -m backend examples list PROJECT": (0, "annotator"),
    ".venv/bin/python -m backend examples list 1": (0, "annotator"),
    ".venv/bin/python -m backend examples measure 1": (0, "examples measured"),
    ".venv/bin/python -m backend examples export 1 masks-of-1": (0, "masks on"),
    "python -m backend examples export PROJECT FOLDER": (0, "masks on"),
    ".venv/bin/python -m backend predict PICTURES --project 1": (0, "masks and previews are in predictions"),
    ".venv/bin/python -m backend predict PICTURES --examples masks-of-1 --out found": (
        0,
        "masks and previews are in found",
    ),
    ".venv/bin/python -m backend evaluate masks-of-1 --shots 1": (0, "mIoU"),
    "python -m backend tune PROJECT": (1, "at least"),
    "python -m backend prompts rollback PROJECT": (1, "No prompt"),
    ".venv/bin/python -m backend prompts rollback PROJECT": (1, "No prompt"),
    "python -m backend store info": (0, "The store is"),
    ".venv/bin/python -m backend store info": (0, "The store is"),
    ".venv/bin/python -c \"import sqlite3; sqlite3.connect('data/store.sqlite3')"
    '.execute(\\"VACUUM INTO \'backup.sqlite3\'\\")"': (0, ""),
}
"""Commands that are run, on a project of the fake Label Studio; the exit code and what they must say."""

MEANT = {"PROJECT": "1", "N": "1", "PICTURES": "pictures", "FOLDER": "a-folder"}
"""What stands for the words in capitals."""
