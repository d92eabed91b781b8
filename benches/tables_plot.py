"""The throughput table as a picture, without a plotting library: bars by engine and number of workers."""

from __future__ import annotations

from html import escape

Found = list[tuple[str, int, float, float]]
WIDTH, BAR, GAP, LEFT, RIGHT = 760, 11, 3, 190, 90
COLOURS = {"read": "#2b6cb0", "write": "#dd6b20"}


def svg(found: Found, published: dict[str, list[tuple[int, float, float]]]) -> str:
    """Return an SVG; the scale is logarithmic, because engines are orders of magnitude apart."""
    rows = [(f"{name}, {workers}", read, write) for name, workers, read, write in found]
    for name, figures in published.items():
        rows += [(f"kvlayer on {name}, {workers}", read, write) for workers, read, write in figures]
    top = max(max(read, write) for _, read, write in rows)
    step = 2 * BAR + GAP + 6
    height = 50 + step * len(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        '<text x="10" y="18" font-size="13">MB/s with values of 1 MB, by engine and workers '
        "(logarithmic)</text>",
    ]
    for place, (word, colour) in enumerate(COLOURS.items()):
        x = LEFT + 110 * place
        parts.append(f'<rect x="{x}" y="26" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{x + 14}" y="35">{word}</text>')
    for number, (label, read, write) in enumerate(rows):
        y = 48 + step * number
        parts.append(
            f'<text x="{LEFT - 8}" y="{y + BAR + 4}" text-anchor="end">{escape(label)}</text>'
        )
        for offset, (word, value) in enumerate((("read", read), ("write", write))):
            length = _length(value, top)
            at = y + offset * (BAR + GAP)
            parts.append(
                f'<rect x="{LEFT}" y="{at}" width="{length:.0f}" height="{BAR}" fill="{COLOURS[word]}"/>'
            )
            parts.append(
                f'<text x="{LEFT + length + 4:.0f}" y="{at + BAR - 2}">{value:,.0f}</text>'
            )
    parts.append("</svg>\n")
    return "\n".join(parts)


def _length(value: float, top: float) -> float:
    from math import log

    return (WIDTH - LEFT - RIGHT) * log(1 + value) / log(1 + top)
