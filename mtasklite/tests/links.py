"""Finds links that lead nowhere: `python -m mtasklite.tests.links [--online] [FOLDER]`.

Looks at README, changelog, docs and the notebooks in examples. Without `--online` the network is left alone.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

FENCED = re.compile(r"^ {0,3}(```+|~~~+).*?^ {0,3}\1 *$", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
FORMS = [
    re.compile(r"\]\( *<?([^)\s>]*)>?[^)]*\)"),
    re.compile(r"^ {0,3}\[[^\]]+\]: *<?([^\s>]+)", re.MULTILINE),
    re.compile(r"<((?:https?|ftp):[^>\s]*)>"),
    re.compile(r"<(?:a|img)\b[^>]*?\b(?:href|src) *= *[\"']([^\"']*)[\"']"),
]
LABEL = re.compile(r"^ {0,3}\[([^\]]+)\]:", re.MULTILINE)
LABEL_USED = re.compile(r"\]\[([^\]]+)\]")
HEADING = re.compile(r"^#+ +(.+?) *#* *$", re.MULTILINE)
DOCSTRING = re.compile(r"^::: +(\S+)", re.MULTILINE)
HOST = re.compile(r"[\w-]+(\.[\w-]+)+")
SECONDS_TO_ANSWER = 20


def pages_of(root: Path, notebooks: bool = True) -> list[Path]:
    """Return the files of a project whose links are looked at."""
    pages = [root / "README.md", root / "CHANGELOG.md", *(root / "docs").rglob("*.md")]
    if notebooks:
        pages += (root / "examples").glob("*.ipynb")
    return sorted(page for page in pages if page.is_file())


def prose_of(page: Path) -> str:
    """Return a page's text, or that of a notebook's text cells, without blocks of code."""
    text = page.read_text("utf-8")
    if page.suffix == ".ipynb":
        cells = json.loads(text).get("cells", [])
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return FENCED.sub("", text)


def links_of(page: Path) -> list[str]:
    """Return the links of a page, in all the forms that there are."""
    prose = INLINE_CODE.sub("code", prose_of(page))
    return [link for form in FORMS for link in form.findall(prose)]


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page: those that GitHub makes of headings, and those of docstrings on the site."""
    prose = prose_of(page)
    seen: Counter[str] = Counter()
    anchors = set(DOCSTRING.findall(prose))
    for heading in HEADING.findall(prose):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        anchors.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return anchors


def targets_of(page: Path) -> list[Path]:
    """Return the files that a page's relative links lead to."""
    links = [link for link in links_of(page) if not re.match(r"[a-z]+:|#", link)]
    return [(page.parent / unquote(link.partition("#")[0])).resolve() for link in links]


def fault_of(link: str, page: Path, root: Path) -> str:
    """Return what is wrong with a link, or nothing."""
    if re.match(r"[a-z]+:", link):
        parts = urlsplit(link)
        is_good = parts.scheme == "https" and HOST.fullmatch(parts.hostname or "")
        return "" if is_good else "is no https address"
    path, _, anchor = link.partition("#")
    target = (page.parent / unquote(path)).resolve() if path else page
    if path.startswith("/") or not target.is_relative_to(root.resolve()):
        return "is no relative path within the project"
    if not target.is_file():
        return "there is no such file"
    return f"{target.name} has no such heading" if anchor and anchor not in anchors_of(target) else ""


def broken_links(page: Path, root: Path) -> list[str]:
    """Return a line for each link of a page that leads nowhere."""
    prose = INLINE_CODE.sub("code", prose_of(page))
    faults = [(link, fault_of(link, page, root)) for link in links_of(page)]
    faults += [(label, "no line defines this label") for label in LABEL_USED.findall(prose)]
    defined = set(LABEL.findall(prose))
    name = page.relative_to(root).as_posix()
    return [f"{name}: {link}: {fault}" for link, fault in faults if fault and link not in defined]


def unanswered(root: Path) -> Iterator[str]:
    """Open each address of the project once, and say which did not answer."""
    found = {link.partition("#")[0]: page for page in pages_of(root) for link in links_of(page) if "://" in link}
    for address, page in sorted(found.items()):
        try:
            request = Request(address, headers={"User-Agent": "Mozilla/5.0 (link check)"})
            urlopen(request, timeout=SECONDS_TO_ANSWER).close()
        except OSError as error:
            yield f"{page.relative_to(root).as_posix()}: {address}: {error}"


def main(arguments: list[str]) -> int:
    """Print what is broken; return 1 if anything is."""
    parser = argparse.ArgumentParser(prog="python -m mtasklite.tests.links", description="Find links to nowhere.")
    parser.add_argument(
        "folder", nargs="?", default=".", type=Path, help="the checkout; the current folder if left out"
    )
    parser.add_argument("--online", action="store_true", help="open external addresses too")
    options = parser.parse_args(arguments)
    pages = pages_of(options.folder)
    complaints = [line for page in pages for line in broken_links(page, options.folder)]
    if options.online:
        complaints += unanswered(options.folder)
    print(*complaints, sep="\n", end="\n" if complaints else "")
    print(f"{sum(len(links_of(page)) for page in pages)} links on {len(pages)} pages, {len(complaints)} broken")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
