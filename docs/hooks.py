"""What the site has from outside of docs/: the README as its first page, changelog, license and examples.

Links are written as they must be on GitHub, from file to file. Here those that leave docs/, or come from outside, are
led to where the site has the file. And the reference is mended where the tools misread the source.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
FENCE = "```"
LINK = re.compile(r"(\]\()([^)\s:#]+)")
TABLE = re.compile(r"<table>.*?</table>", re.DOTALL)
CODE = re.compile(r"(?<=<code>)[^<]+(?=</code>)")
LONG_NAME = re.compile(r"\w{24,}")
BRACKET = re.compile(r"(?<=\w)[.(\[=]+(?=[\w\"&])")
EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
RENAMED = {"README.md": "index.md", "LICENSE": "LICENSE.txt"}
BACK = {new: old for old, new in RENAMED.items()}


def on_files(files: Any, config: Any) -> Any:
    """Add the files from outside of docs/."""
    examples = [path for path in (ROOT / "examples").iterdir() if path.suffix in (".py", ".ipynb")]
    for path in [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "LICENSE", *sorted(examples)]:
        name = place_on_site(path.relative_to(ROOT).as_posix())
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Lead the links of a page to where the site has their files; blocks of code stay as they are."""
    place = page.file.src_uri
    origin = BACK.get(place, place if place == "CHANGELOG.md" else "docs/" + place)

    def lead(match: re.Match[str]) -> str:
        target = place_on_site(posixpath.normpath(posixpath.join(posixpath.dirname(origin), match[2])))
        return match[1] + posixpath.relpath(target, posixpath.dirname(place) or ".")

    parts = markdown.split(FENCE)
    parts[::2] = [LINK.sub(lead, part) for part in parts[::2]]
    return FENCE.join(parts)


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Let code in the cells of tables break within long names and after brackets and the like: lines are narrow."""

    def let_break(code: re.Match[str]) -> str:
        text = LONG_NAME.sub(lambda name: name[0].replace("_", "_<wbr>"), code[0])
        return BRACKET.sub(r"\g<0><wbr>", text)

    return TABLE.sub(lambda table: CODE.sub(let_break, table[0]), html)


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
