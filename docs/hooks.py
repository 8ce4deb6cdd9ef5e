"""What the site has from outside of docs/: the README as its first page, changelog, license and examples.

Links are written as they must be on GitHub, from file to file. Here those that leave docs/, or come from outside, are
led to where the site has the file. And the reference is mended where the tools misread the source.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import griffe
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
LOG = logging.getLogger("mkdocs.hooks")  # a warning here fails a strict build
FENCE = "```"
LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)\s#]+)")
HREF = re.compile(r"(<a\b[^>]*\bhref=\")(?![a-z]+:|#)([^\"#]+)")
TABLE = re.compile(r"<table>.*?</table>", re.DOTALL)
CODE = re.compile(r"(?<=<code>)[^<]+(?=</code>)")
LONG_NAME = re.compile(r"\w{24,}")
BRACKET = re.compile(r"(?<=\w)[.(\[=]+(?=[\w\"&])")
EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
RENAMED = {"README.md": "index.md", "LICENSE": "LICENSE.txt"}
BACK = {new: old for old, new in RENAMED.items()}


@event_priority(100)  # before plugins that make pages of what they find
def on_files(files: Any, config: Any) -> Any:
    """Add the files from outside of docs/."""
    for name in ["README.md", "CHANGELOG.md", "LICENSE"]:
        files.append(File.generated(config, place_on_site(name), abs_src_path=str(ROOT / name)))
    for path in sorted((ROOT / "examples").iterdir()):
        if path.suffix in (".py", ".ipynb"):
            name = path.relative_to(ROOT).as_posix()
            files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Lead the links of a page to where the site has their files; blocks of code stay as they are."""
    place = page.file.src_uri

    def lead(match: re.Match[str]) -> str:
        return match[1] + posixpath.relpath(target_on_site(match[2], place), posixpath.dirname(place) or ".")

    parts = markdown.split(FENCE)
    parts[::2] = [LINK.sub(lead, part) for part in parts[::2]]
    return FENCE.join(parts)


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Lead the links of notebooks, which are not Markdown by now; let code in the cells of tables break."""
    if page.file.src_uri.endswith(".ipynb"):
        return HREF.sub(lambda match: match[1] + address_of(match[2], page.file, files), html)
    return TABLE.sub(lambda table: CODE.sub(let_break, table[0]), html)


def let_break(code: re.Match[str]) -> str:
    """Let code break within long names and after brackets and the like: the cells of tables are narrow."""
    text = LONG_NAME.sub(lambda name: name[0].replace("_", "_<wbr>"), code[0])
    return BRACKET.sub(r"\g<0><wbr>", text)


def address_of(link: str, page_file: Any, files: Any) -> str:
    """Return the address on the site of the file that a notebook's link leads to."""
    target = files.get_file_from_path(target_on_site(unquote(link), page_file.src_uri))
    if target is None:
        LOG.warning(f"{page_file.src_uri} has a link to {link}, which the site does not have")
        return link
    return str(target.url_relative_to(page_file))


def target_on_site(link: str, place: str) -> str:
    """Return where the site has the file that a link leads to, written in the file whose place on the site this is."""
    is_outside = place == "CHANGELOG.md" or place.startswith("examples/")
    origin = BACK.get(place, place if is_outside else "docs/" + place)
    return place_on_site(posixpath.normpath(posixpath.join(posixpath.dirname(origin), link)))


def place_on_site(path: str) -> str:
    """Return where the site has a file of the project."""
    return RENAMED.get(path, path[len("docs/") :] if path.startswith("docs/") else path)


class Source(griffe.Extension):
    """Mends what inspection makes of types, and lets the section `Example` of a docstring be one."""

    def on_function_instance(self, *, node: Any, func: Any, **kwargs: Any) -> None:
        """Give parameters whose type depends on R the type that stands in the source."""
        types = getattr(node.obj, "__annotations__", {})
        for parameter in func.parameters:
            if "[R]" in str(types.get(parameter.name)):
                parameter.annotation = types[parameter.name]

    def on_object(self, *, obj: Any, **kwargs: Any) -> None:
        """Call the section `Examples`, as the reader of docstrings expects."""
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub("Examples:", obj.docstring.value)
