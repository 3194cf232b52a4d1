"""What MkDocs asks while it builds the site (`hooks` in mkdocs.yml): folders, two languages, links that lead outside.

The pages below `zh/` get the theme in Chinese. Every page that has a twin gets a switch to it. A link to a file of
the repository that is no page (a figure's JSON, a schema) becomes the file's name: the site holds the pages alone.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

LANGUAGES = {"en": "English", "zh": "中文"}
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(((?:\.\./)+[^)\s]*)\)")


def on_config(config: Any, **_: Any) -> Any:
    """A folder in the navigation, by its name and a slash, stands for all its pages."""
    config.nav = _spread(config.nav, Path(config.docs_dir)) if config.nav else config.nav
    return config


def _spread(item: Any, docs: Path) -> Any:
    if isinstance(item, list):
        return [_spread(each, docs) for each in item]
    if isinstance(item, dict):
        return {title: _spread(each, docs) for title, each in item.items()}
    if isinstance(item, str) and item.endswith("/"):
        return [path.relative_to(docs).as_posix() for path in sorted((docs / item).glob("*.md"))]
    return item


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Links to files beside `docs/` become names of files."""

    def mended(found: re.Match[str]) -> str:
        text, target = found.groups()
        path = posixpath.normpath(
            posixpath.join("docs", posixpath.dirname(page.file.src_uri), target.partition("#")[0])
        )
        if path.startswith("docs/"):
            return found[0]
        return f"`{path}`" if text.strip("`") in (path, posixpath.basename(path)) else f"{text} (`{path}`)"

    return LINK.sub(mended, markdown)


def on_nav(nav: Any, *, config: Any, files: Any, **_: Any) -> Any:
    """Remembers where each page will lie."""
    config.extra["pages"] = {file.src_uri: file.url for file in files.documentation_pages()}
    return nav


def on_page_context(context: dict[str, Any], *, page: Any, config: Any, **_: Any) -> dict[str, Any]:
    """The theme's language, and the way to the same page in the other one, or to that one's first page."""
    here, pages = page.file.src_uri, config.extra["pages"]
    config.theme["language"] = language_of(here)
    found = []
    for language, name in LANGUAGES.items():
        uri, first = in_language(here, language), in_language("index.md", language)
        found.append({"name": name, "link": pages.get(uri, pages.get(first, ".")), "lang": language})
    config.extra["alternate"] = found
    return context


def in_language(uri: str, language: str) -> str:
    """Where the page's text in a language would lie."""
    return ("zh/" if language == "zh" else "") + uri.removeprefix("zh/")


def language_of(uri: str) -> str:
    """`zh` for the pages below `zh/`, else `en`."""
    return "zh" if uri.startswith("zh/") else "en"
