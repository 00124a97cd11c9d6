"""Rules of the house that no other tool watches; CONTRIBUTING.md tells them in words."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

import backend
from backend import errors
from backend.settings import Settings

ROOT = Path(__file__).parents[1]
CODE = sorted(
    path for folder in ("backend", "model", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)
ROOMS = [
    path for path in CODE if path.is_relative_to(ROOT / "backend") or path.is_relative_to(ROOT / "model")
]
DOCS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TEXT_SUFFIXES = {
    ".cfg",
    ".css",
    ".html",
    ".js",
    ".json",
    ".md",
    ".py",
    ".sh",
    ".sql",
    ".toml",
    ".txt",
    ".xml",
}
TEXT_SUFFIXES |= {".yaml", ".yml", ".ini", ""}
LONGEST_FILE = 400
HEADING = re.compile(r"^(#+) +(.+)$")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def texts() -> Iterator[Path]:
    """The text files that are, or could be, committed."""
    for folder in ("backend", "model", "tests", "benchmarks", "docs", "docker", ".ci"):
        yield from (
            path
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and path.suffix in TEXT_SUFFIXES and "__pycache__" not in path.parts
        )
    yield from (path for path in ROOT.iterdir() if path.is_file() and path.suffix in TEXT_SUFFIXES)


def without_code_blocks(markdown: str) -> str:
    return re.sub(r"^```.*?^```", "(code)", markdown, flags=re.MULTILINE | re.DOTALL)


def test_no_file_is_longer_than_two_rooms_would_be() -> None:
    lines = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in CODE}
    assert {file: count for file, count in lines.items() if count > LONGEST_FILE} == {}


def test_no_file_or_folder_is_a_drawer() -> None:
    drawers = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert [name(path) for path in CODE if drawers & {*path.relative_to(ROOT).parts, path.stem}] == []


def test_nothing_prints_but_benchmarks() -> None:
    printing = [
        f"{name(path)}:{node.lineno}"
        for path in CODE
        if not path.is_relative_to(ROOT / "benchmarks")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert printing == []


def test_no_process_of_ours_comes_to_ignore_a_signal() -> None:
    """One that comes in the middle of `signal.signal(..., SIG_IGN)` is an error that Python prints with a traceback."""
    ignoring = [
        f"{name(path)}:{node.lineno}"
        for path in ROOMS
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "signal.signal"
        and any(part in ast.unparse(node.args[1]) for part in ("SIG_IGN", "SIG_DFL"))
    ]
    assert ignoring == []


def test_no_file_names_a_path_of_a_developer_s_machine() -> None:
    somebody_s = re.compile(r"(?<![\w.])/(home|Users|root|work|opt|tmp/w)/[\w.-]|\b[A-Z]:\\Users\\")
    found = [
        f"{name(path)}:{number}"
        for path in texts()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if somebody_s.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("path", DOCS, ids=name)
def test_every_heading_of_the_docs_has_text(path: Path) -> None:
    """A heading's text may stand below one of its own sub-headings; a heading with nothing at all is deleted."""
    lines = [
        line for line in without_code_blocks(path.read_text(encoding="utf-8")).splitlines() if line.strip()
    ]
    empty = []
    for number, line in enumerate(lines):
        heading = HEADING.match(line)
        following = HEADING.match(lines[number + 1]) if number + 1 < len(lines) else None
        nothing_follows = number + 1 == len(lines) or (
            heading is not None and following is not None and len(following[1]) <= len(heading[1])
        )
        if heading and nothing_follows:
            empty.append(heading[2])
    assert lines, "an empty page is deleted"
    assert empty == []


@pytest.mark.parametrize("path", DOCS, ids=name)
def test_every_link_of_the_docs_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", without_code_blocks(path.read_text(encoding="utf-8")))
    files = [link.partition("#")[0] for link in links if not re.match(r"[a-z]+:|#", link)]
    assert [file for file in files if not (path.parent / file).exists()] == []


def test_the_docs_name_every_room_and_file_of_the_code() -> None:
    """`room.py` or `room/`, as the tree of docs/architecture.md writes them."""
    architecture = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    words = {f"{path.stem}.py": path for path in ROOMS if path.stem not in {"__init__", "__main__"}}
    words |= {f"{path.parent.name}/": path for path in ROOMS if path.stem == "__init__"}
    assert [name(path) for word, path in words.items() if word not in architecture] == []


def test_the_docs_name_every_setting() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    settings = {str(field.alias or name).upper() for name, field in Settings.model_fields.items()}
    assert {setting for setting in settings if f"`{setting}`" not in page} == set()


def test_every_error_has_a_status() -> None:
    from backend.refusals import STATUS_OF  # here, so that the other rules hold without the app

    tree = [value for value in vars(errors).values() if isinstance(value, type)]
    ours = {error for error in tree if issubclass(error, errors.BackendError)}
    assert ours - set(STATUS_OF) == set()


def test_the_commands_come_up_without_torch() -> None:
    """`--help` must not wait for it; commands import `wiring` inside their body."""
    code = "import sys, backend.cli; sys.exit('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0  # noqa: S603 - our own words


def test_the_changelog_s_newest_version_is_the_code_s() -> None:
    newest = re.search(
        r"^## \[(?!Unreleased)(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert newest is not None
    assert newest[1] == backend.__version__


def test_a_missing_service_fails_in_ci_and_skips_on_a_laptop(
    missing: Callable[[str], NoReturn], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no Redis"):
        missing("no Redis")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="no Redis"):
        missing("no Redis")
