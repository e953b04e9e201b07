"""Links from a page to the sources beside it: they work where the repository is browsed, and are checked here.

The site holds pages only, so in it such a link is its text.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

ROOT = Path(__file__).resolve().parent.parent.parent

_LINK = re.compile(r"\[([^\]]+)\]\((\.\./[^)#\s]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    def replaced(found: re.Match[str]) -> str:
        text, target = found[1], found[2]
        path = (ROOT / "docs" / Path(page.file.src_uri).parent / target).resolve()
        if not path.exists():
            raise PluginError(f"{page.file.src_uri} links to {target}, which does not exist")
        return text if text.startswith("`") else f"`{path.relative_to(ROOT)}`" if "/" in text else text

    return _LINK.sub(replaced, markdown)
