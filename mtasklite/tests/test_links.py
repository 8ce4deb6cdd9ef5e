"""The links of README, docs, changelog and notebooks lead somewhere; and the check of that finds what does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mtasklite
from mtasklite.tests import links

ROOT = Path(mtasklite.__file__).resolve().parent.parent
IS_CHECKOUT = (ROOT / "docs" / "pool_arguments.md").is_file()


@pytest.fixture
def root(tmp_path):
    """A small project: a README, a page with two headings of the same name, and a file."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "examples").mkdir()
    (tmp_path / "docs" / "page.md").write_text(
        "# A `page`, and more\n\n## Twice\n\n## Twice\n\n::: some.Thing\n", "utf-8"
    )
    (tmp_path / "examples" / "one.py").write_text("pass\n", "utf-8")
    return tmp_path


def complaints(root, text, name="README.md"):
    """Write a page and return what is wrong with its links."""
    page = root / name
    page.write_text(text, "utf-8")
    return links.broken_links(page, root)


@pytest.mark.parametrize(
    "link",
    [
        "docs/page.md",
        "docs/page.md#a-page-and-more",
        "docs/page.md#twice-1",
        "docs/page.md#some.Thing",
        "examples/one.py",
        "#here",
        "https://example.org/a?b=c#d",
    ],
)
def test_link_that_leads_somewhere_is_passed(root, link):
    """A file, a heading (the second of a name with its number), a docstring of the site and an address are found."""
    assert complaints(root, f"# Here\n\n[text]({link})\n") == []


@pytest.mark.parametrize(
    "link",
    [
        "docs/nowhere.md",
        "docs/page.md#nowhere",
        "docs/page.md#twice-2",
        "docs",
        "../outside.md",
        "/docs/page.md",
        "#nowhere",
        "http://example.org",
        "https://nothing",
        "https:/example.org",
        "ftp://example.org/file",
    ],
)
def test_link_that_leads_nowhere_is_named(root, link):
    """What is missing, outside, absolute, a folder or no https address is a complaint with page and link."""
    (root.parent / "outside.md").write_text("# Outside\n", "utf-8")
    (complaint,) = complaints(root, f"# Here\n\n[text]({link})\n")
    assert complaint.startswith("README.md")
    assert link in complaint


@pytest.mark.parametrize(
    "form",
    [
        "[text](docs/nowhere.md)",
        '[text](docs/nowhere.md "title")',
        "![picture](docs/nowhere.md)",
        "[![picture](docs/page.md)](docs/nowhere.md)",
        "[over\ntwo lines](docs/nowhere.md)",
        "[text][label]\n\n[label]: docs/nowhere.md",
        '<a href="docs/nowhere.md">text</a>',
        '<img width="3" src="docs/nowhere.md">',
    ],
)
def test_link_is_found_in_each_form(root, form):
    """Markdown has several ways to write a link, and HTML one more."""
    (complaint,) = complaints(root, f"# Here\n\n{form}\n")
    assert "docs/nowhere.md" in complaint


def test_label_that_is_not_defined_is_named(root):
    """A link by a label needs the label's line."""
    (complaint,) = complaints(root, "[text][label]\n")
    assert "label" in complaint


def test_code_has_no_links(root):
    """What looks like a link within code is none."""
    assert complaints(root, "`[a](b)` and\n\n```python\ncall[a](b)\n```\n") == []


def test_links_of_a_notebook_are_those_of_its_text(root):
    """Markdown cells are read, code cells are not; paths start at the notebook."""
    cells = [
        {"cell_type": "markdown", "source": ["[good](../docs/page.md#twice)\n", "[bad](docs/page.md)"]},
        {"cell_type": "code", "source": "call[a](b)", "outputs": []},
    ]
    (complaint,) = complaints(root, json.dumps({"cells": cells}), "examples/book.ipynb")
    assert complaint.startswith("examples/book.ipynb: docs/page.md")


def test_all_pages_are_looked_at(root):
    """README, changelog, pages in folders and notebooks are among the pages, as far as they are there."""
    names = ["CHANGELOG.md", "README.md", "docs/deep/inner.md", "examples/book.ipynb"]
    (root / "docs" / "deep").mkdir()
    for name in names:
        (root / name).write_text("{}", "utf-8")
    found = {page.relative_to(root).as_posix() for page in links.pages_of(root)}
    assert found == {*names, "docs/page.md"}


def test_command_fails_and_prints_what_is_broken(root, capsys):
    """One broken link is exit code 1, none is 0."""
    assert complaints(root, "[text](docs/page.md)") == []
    assert links.main([str(root)]) == 0
    assert complaints(root, "[text](docs/nowhere.md)")
    assert links.main([str(root)]) == 1
    assert "README.md: docs/nowhere.md" in capsys.readouterr().out


def test_command_asks_the_network_only_when_told(root, capsys, monkeypatch):
    """Addresses are opened with `--online` alone, each once; one that does not answer is broken."""
    opened = []

    def open_url(request, timeout):
        opened.append(request.full_url)
        raise OSError("no such host")

    monkeypatch.setattr(links, "urlopen", open_url)
    assert complaints(root, "[a](https://example.org/x#y) [b](https://example.org/x)") == []
    assert links.main([str(root)]) == 0
    assert opened == []
    assert links.main(["--online", str(root)]) == 1
    assert opened == ["https://example.org/x"]
    assert "https://example.org/x: no such host" in capsys.readouterr().out


if IS_CHECKOUT:

    @pytest.mark.parametrize("page", links.pages_of(ROOT), ids=lambda page: page.relative_to(ROOT).as_posix())
    def test_links_of_page_lead_somewhere(page):
        """Each link of the project's own pages leads to a file, a heading, or an https address."""
        assert links.broken_links(page, ROOT) == []

    def test_each_page_can_be_reached_from_the_readme():
        """Whoever starts at the README comes to every page of the docs."""
        reached, to_read = set(), [ROOT / "README.md"]
        while to_read:
            page = to_read.pop()
            if page not in reached:
                reached.add(page)
                to_read += [target for target in links.targets_of(page) if target.suffix == ".md"]
        assert set(links.pages_of(ROOT, notebooks=False)) - reached == set()
