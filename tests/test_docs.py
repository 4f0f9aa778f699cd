"""The documentation: its Python runs, and its commands exist."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from labelpenet.cli import app

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(DOCS.glob("*.md")) if DOCS.is_dir() else []
pytestmark = pytest.mark.skipif(not PAGES, reason="no docs folder: not a checkout")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.S | re.M)


WITH_CODE = [page for page in PAGES if blocks(page, "python")]
COMMANDS = [
    (page.name, " ".join(words[words.index("labelpenet") + 1 :]))
    for page in PAGES
    for block in blocks(page, "sh")
    for line in block.replace("\\\n", " ").splitlines()
    if "labelpenet" in (words := shlex.split(line, comments=True))
    and words[0] in ("labelpenet", "torchrun", ".venv/bin/labelpenet")
]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_python_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), scope)


@pytest.mark.parametrize(("page", "words"), COMMANDS)
def test_commands_exist(page, words):
    group = typer.main.get_command(app)
    name, *arguments = shlex.split(words)
    group.commands[name].make_context(name, arguments)  # reads the arguments, runs nothing


def test_every_page_is_in_the_menu():
    menu = (DOCS.parent / "mkdocs.yml").read_text("utf-8")
    assert [page.name for page in PAGES if page.name not in menu] == []
    assert len(COMMANDS) > 20
    assert {page.name for page in WITH_CODE} >= {"library.md", "labels.md"}
