"""The tables as pictures, without a plotting library: throughput by engine and workers, and ratios to reach."""

from __future__ import annotations

from html import escape
from math import log10

Found = list[tuple[str, int, float, float]]
WIDTH, BAR, GAP, LEFT, RIGHT, TOP = 760, 11, 3, 250, 80, 62
READ, WRITE, PALE_READ, PALE_WRITE = "#2b6cb0", "#dd6b20", "#9db8d6", "#efc09c"
BETWEEN = 10


class Picture:
    """Bars to the right of labels on a logarithmic scale."""

    def __init__(self, title: str, lowest: float, highest: float) -> None:
        self._title = title
        self._lowest, self._highest = log10(lowest), log10(highest)
        self._parts: list[str] = []
        self._bottom = TOP

    def x(self, value: float) -> float:
        """Return the place of a value."""
        share = (log10(value) - self._lowest) / (self._highest - self._lowest)
        return LEFT + (WIDTH - LEFT - RIGHT) * min(max(share, 0), 1)

    def space(self) -> None:
        """Leave room before another group."""
        self._bottom += BETWEEN

    def bars(self, label: str, bars: list[tuple[float, str, str]]) -> float:
        """Draw (value, colour, words) under one label; return the top of the first."""
        top, height = self._bottom, len(bars) * (BAR + GAP)
        self.text(LEFT - 8, top + height / 2 + 3, label, "end")
        for number, (value, colour, words) in enumerate(bars):
            y = top + number * (BAR + GAP)
            self.box(LEFT, y, self.x(value) - LEFT, BAR, colour)
            self.text(self.x(value) + 4, y + BAR - 2, words)
        self._bottom += height + GAP
        return top

    def text(self, x: float, y: float, words: str, anchor: str = "start") -> None:
        """Write words."""
        self._parts.append(
            f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{escape(words)}</text>'
        )

    def box(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """Draw a rectangle."""
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.0f}" width="{width:.1f}" height="{height:.0f}" '
            f'fill="{colour}"/>'
        )

    def svg(self, ticks: tuple[float, ...], legend: list[tuple[str, str]]) -> str:
        """Return the picture with lines at some values."""
        height = self._bottom + 10
        for place, (words, colour) in enumerate(legend):
            self.box(LEFT + 120 * place, 26, 10, 10, colour)
            self.text(LEFT + 14 + 120 * place, 35, words)
        lines = []
        for value in ticks:
            x = self.x(value)
            self.text(x, TOP - 8, f"{value:,g}", "middle")
            lines.append(
                f'<line x1="{x:.1f}" y1="{TOP - 4}" x2="{x:.1f}" y2="{height - 6}" stroke="#ddd"/>'
            )
        head = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="11">',
            '<rect width="100%" height="100%" fill="white"/>',
            f'<text x="10" y="18" font-size="13">{escape(self._title)}</text>',
        ]
        return "\n".join([*head, *lines, *self._parts, "</svg>\n"])


def throughput(found: Found, published: dict[str, list[tuple[int, float, float]]]) -> str:
    """Return an SVG of MB/s by engine and workers, kvlayer's own at the end."""
    top = max(max(read, write) for _, _, read, write in found)
    picture = Picture("MB/s with values of 1 MB, by engine and workers (logarithmic)", 1, top)
    last = ""
    for name, workers, read, write in found:
        if name != last:
            picture.space()
        last = name
        bars = [(read, READ, f"{read:,.0f}"), (write, WRITE, f"{write:,.0f}")]
        picture.bars(f"{name}, {workers} worker{'s' * (workers > 1)}", bars)
    for name, figures in published.items():
        picture.space()
        for workers, read, write in figures:
            bars = [(read, PALE_READ, f"{read:,.0f}"), (write, PALE_WRITE, f"{write:,.0f}")]
            picture.bars(f"kvlayer on {name}, 2014, {workers} workers", bars)
    return picture.svg((1, 10, 100, 1_000), [("read", READ), ("write", WRITE)])


def ratios(rows: list[tuple[str, float, float]]) -> str:
    """Return an SVG of (what, how many times as fast, reach), with a mark at each reach."""
    top = max(ratio for _, ratio, _ in rows)
    picture = Picture("Times as fast as what is beside it (logarithmic)", 0.5, top)
    last = 0.0
    for what, ratio, reach in rows:
        if reach != last:
            picture.space()
        last = reach
        y = picture.bars(what, [(ratio, READ, f"{ratio:.2f}")])
        picture.box(picture.x(reach) - 1, y - 2, 2, BAR + 4, WRITE)
    return picture.svg((0.5, 1, 2, 5, 10, 20), [("atbr.tables", READ), ("to reach", WRITE)])
