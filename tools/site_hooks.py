"""What mkdocs calls while it builds the site."""

import re
from pathlib import Path
from typing import Any

_OUTSIDE = re.compile(
    r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>"
)
# A link that is only told, not loaded.
_TOLD = re.compile(r"\brel=[\"']?(?:canonical|next|prev)\b")


def on_config(config: Any) -> Any:
    """Put every page of docs/measures into the navigation, so that there is no second list."""
    pages = sorted(path.name for path in Path(config.docs_dir, "measures").glob("*.md"))
    measures = ["measures/index.md", *(f"measures/{p}" for p in pages if p != "index.md")]
    config.nav = [{"Measures": measures} if "Measures" in entry else entry for entry in config.nav]
    return config


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Refuse a page that would load anything from elsewhere."""
    for tag in _OUTSIDE.findall(output):
        if not _TOLD.search(tag):
            raise ValueError(f"{page.file.src_uri} loads from outside: {tag}")
    return output
