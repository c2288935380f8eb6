"""A visit to a page in a real browser, during which it must be quiet and ask for nothing."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Seen:
    """What the page did that it must not do."""

    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


def visiting(chromium: Any, path: Path) -> Callable[..., AbstractContextManager[Any]]:
    """A function that opens the page, at a place of it and with options of the browser."""

    @contextmanager
    def opened(place: str = "", **options: Any) -> Iterator[Any]:
        # A page that still glides to its place moves under the pointer of a test.
        still = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"}
        settings = still | options
        context = chromium.new_context(**settings)
        page, seen = context.new_page(), Seen()
        page.set_default_timeout(30_000)
        page.on("console", lambda message: seen.said.append(message.text))
        page.on("pageerror", lambda error: seen.said.append(str(error)))
        page.on("dialog", lambda dialog: (seen.said.append("dialog"), dialog.dismiss()))
        page.on("request", lambda request: seen.asked.append(request.url))
        page.goto(f"{path.as_uri()}{place}")
        yield page
        if settings.get("java_script_enabled", True):
            assert page.evaluate("window.broken") is None
        context.close()
        assert seen.said == []
        assert [url.split("#")[0].rpartition("/")[2] for url in seen.asked] == [path.name]

    return opened
