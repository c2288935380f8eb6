"""How a result shows itself: a small table in a notebook, the same in lines in a terminal.

The HTML is whole by itself: no script, nothing loaded, every text made visible and escaped. Its ink
is that of the page around it, so that it is read on white and on black alike.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from energylens.results.text import visible

ACCENT = "#0d9488"  # stands out on white and on black alike
LONGEST = 600  # characters of one text


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A value, its interval and the band of its null; nan where there is none."""

    value: float | int
    low: float | int = math.nan
    high: float | int = math.nan
    null_low: float | int = math.nan
    null_high: float | int = math.nan


def on_one_scale(bars: Sequence[Bar]) -> list[Bar]:
    """The same bars on a scale from 0 to 100 that holds them all.

    Example:
        >>> on_one_scale([Bar(value=2, null_low=-1, null_high=1)])[0].value
        96.0
    """
    known = [place for bar in bars for place in vars(bar).values() if math.isfinite(place)]
    start = min(known, default=0.0)
    width = (max(known, default=0.0) - start) or 1.0

    def placed(bar: Bar) -> Bar:
        on_scale = {name: 4 + 92 * (place - start) / width for name, place in vars(bar).items()}
        low, high = on_scale["null_low"], on_scale["null_high"]
        narrow = max(0.0, 2 - (high - low)) / 2  # a null without spread still shows
        return Bar(**{**on_scale, "null_low": low - narrow, "null_high": high + narrow})

    return [placed(bar) for bar in bars]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of what is shown: a value, its bar, and the bar in words."""

    label: str
    value: str
    bar: Bar | None = None
    told: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a result shows of itself.

    Attributes:
        says: A sentence under the caption.
        one_scale: Whether the bars share one scale, as rows of one unit do.
        notes: Small print under the table: the null, what is undefined, what to do next.
    """

    caption: str = ""
    says: str = ""
    rows: Sequence[Row] = ()
    one_scale: bool = False
    notes: Sequence[str] = ()

    def text(self) -> str:
        """As lines; one line where there is but one row."""
        cells = [(_seen(row.label), _seen(row.value), ", ".join(map(_seen, row.told)))
                 for row in self.rows]  # fmt: skip
        widths = [max((len(cell[i]) for cell in cells), default=0) for i in (0, 1)]
        indent = "  " if self.caption else ""
        lines = [_seen(self.caption), _seen(self.says)]
        lines += [
            f"{indent}{label:{widths[0]}}  {value:{widths[1]}}  {told}".rstrip()
            for label, value, told in cells
        ]
        return "\n".join([*filter(None, lines), *(indent + _seen(note) for note in self.notes)])

    def html(self) -> str:
        """As a table for a page of anyone's."""
        small = "margin:4px 0 0;font-size:12px;opacity:.8;max-width:72em"
        parts = [f'<p style="margin:0;font-weight:600">{_text(self.caption)}</p>']
        parts += [f'<p style="margin:2px 0 0;max-width:60em">{_text(self.says)}</p>']
        parts = [part for part, said in zip(parts, (self.caption, self.says), strict=True) if said]
        if self.rows:
            rows = "".join(
                _row(row, drawn) for row, drawn in zip(self.rows, self._drawn(), strict=True)
            )
            # pages without a doctype give tables an ink of their own
            table = "border-collapse:collapse;font-size:13px;margin:6px 0 0;color:inherit"
            parts.append(f'<table style="{table}"><tbody>{rows}</tbody></table>')
        parts += [f'<p style="{small}">{_text(note)}</p>' for note in self.notes]
        return f'<div style="line-height:1.45">{"".join(parts)}</div>'

    def _drawn(self) -> list[str]:
        bars = [row.bar for row in self.rows]
        some = [bar for bar in bars if bar is not None and math.isfinite(bar.value)]
        placed = iter(
            on_one_scale(some) if self.one_scale else [on_one_scale([bar])[0] for bar in some]
        )
        return [
            _svg(next(placed), row) if bar is not None and math.isfinite(bar.value) else ""
            for bar, row in zip(bars, self.rows, strict=True)
        ]


class ShowsItself(ABC):
    """A result that a notebook shows as a table and a terminal as lines."""

    @abstractmethod
    def shown(self) -> Shown:
        """What there is to see."""

    def __repr__(self) -> str:
        return self.shown().text()

    def _repr_html_(self) -> str:
        return self.shown().html()


def _seen(text: str) -> str:
    return visible(text, most=LONGEST)


def _text(text: str) -> str:
    return escape(_seen(text))


def _row(row: Row, drawn: str) -> str:
    cell = "padding:3px 14px 3px 0;text-align:left;vertical-align:top;font-weight:400"
    return (
        f'<tr><th scope="row" style="{cell}">{_text(row.label)}</th>'
        f'<td style="{cell};font-weight:600;white-space:nowrap">{_text(row.value)}</td>'
        f'<td style="{cell}">{drawn}</td>'
        f'<td style="{cell}">{_text(", ".join(row.told))}</td></tr>'
    )


def _svg(bar: Bar, row: Row) -> str:
    """The interval as a line, the value as a dot, the null as a grey band behind both."""
    shapes = ""
    if math.isfinite(bar.null_low) and math.isfinite(bar.null_high):
        wide = 2 * (bar.null_high - bar.null_low)
        shapes += (
            f'<rect x="{2 * bar.null_low:.1f}" y="3" width="{wide:.1f}" height="12"'
            ' fill="currentColor" fill-opacity=".2"/>'
        )
    if math.isfinite(bar.low) and math.isfinite(bar.high):
        shapes += (
            f'<line x1="{2 * bar.low:.1f}" x2="{2 * bar.high:.1f}" y1="9" y2="9"'
            f' stroke="{ACCENT}" stroke-width="2.5"/>'
        )
    shapes += f'<circle cx="{2 * bar.value:.1f}" cy="9" r="4" fill="{ACCENT}"/>'
    said = _text(", ".join((f"{row.label} {row.value}", *row.told)))
    return (
        f'<svg viewBox="0 0 200 18" width="200" height="18" role="img" aria-label="{said}">'
        f"{shapes}</svg>"
    )
