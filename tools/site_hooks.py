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
    """List every measure and every decision in the navigation, so that there is no second list."""
    docs = Path(config.docs_dir)

    def listed(entry: dict[str, Any]) -> dict[str, Any]:
        ((title, folder),) = entry.items()
        if not str(folder).endswith("/"):
            return entry
        names = sorted(path.name for path in (docs / folder).glob("*.md"))
        names.sort(key=lambda name: name != "index.md")  # the index first
        return {title: [f"{folder}{name}" for name in names]}

    config.nav = [listed(entry) for entry in config.nav]
    return config


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Refuse a page that would load anything from elsewhere."""
    for tag in _OUTSIDE.findall(output):
        if not _TOLD.search(tag):
            raise ValueError(f"{page.file.src_uri} loads from outside: {tag}")
    return output
