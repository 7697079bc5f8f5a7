"""Plots as SVG, written by hand: lines over time, and bars. No library, and the same bytes every time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final, TypeAlias

Points: TypeAlias = Sequence[tuple[float, float]]

WIDTH: Final = 800
HEIGHT: Final = 320
LEFT: Final = 70
RIGHT: Final = 20
TOP: Final = 40
BOTTOM: Final = 50
COLOURS: Final = ("#3465a4", "#cc0000", "#4e9a06", "#75507b", "#c17d11", "#06989a")
_STEPS: Final = (1, 2, 5)


def lines(
    title: str,
    series: Mapping[str, Points],
    *,
    x: str,
    y: str,
    shades: Iterable[tuple[float, float, str]] = (),
    steps: bool = False,
) -> str:
    """Return a plot of lines.

    Args:
        title: above it.
        series: points of each line, ascending in x, by the line's name.
        x, y: names of the axes, with units.
        shades: from, to and name of what is shaded behind the lines.
        steps: whether values last until the next point.
    """
    points = [point for line in series.values() for point in line] or [(0.0, 0.0)]
    x_ticks = ticks(min(p[0] for p in points), max(p[0] for p in points))
    y_ticks = ticks(0, max(p[1] for p in points))
    place = _Place(x_ticks, y_ticks)
    parts = []
    for start, stop, name in shades:
        left, right = place.x(max(start, x_ticks[0])), place.x(min(stop, x_ticks[-1]))
        parts.append(
            f'<rect x="{left:.1f}" y="{TOP}" width="{max(right - left, 1):.1f}" '
            f'height="{HEIGHT - TOP - BOTTOM}" fill="#888" opacity="0.15">'
            f"<title>{escape(name)}</title></rect>"
        )
    parts += _axes(place, x, y)
    for number, (name, line) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        path: list[str] = []
        for index, (px, py) in enumerate(line):
            if steps and index:
                path.append(f"{place.x(px):.1f},{place.y(line[index - 1][1]):.1f}")
            path.append(f"{place.x(px):.1f},{place.y(py):.1f}")
        parts.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{" ".join(path)}"/>'
        )
        parts.append(_text(LEFT + 10 + 180 * number, TOP - 8, name, fill=colour))
    return _page(title, parts)


def bars(title: str, values: Mapping[str, float], *, y: str) -> str:
    """Return a plot of one bar for each name, in the order given."""
    y_ticks = ticks(0, max([*values.values(), 0]))
    place = _Place([0, max(len(values), 1)], y_ticks)
    parts = _axes(place, "", y, x_labels=False)
    each = (WIDTH - LEFT - RIGHT) / max(len(values), 1)
    shown = max(1, len(values) // 25)
    for number, (name, value) in enumerate(values.items()):
        left, top = LEFT + number * each, place.y(value)
        parts.append(
            f'<rect x="{left + each * 0.1:.1f}" y="{top:.1f}" width="{each * 0.8:.1f}" '
            f'height="{HEIGHT - BOTTOM - top:.1f}" fill="{COLOURS[0]}">'
            f"<title>{escape(name)}: {value:g}</title></rect>"
        )
        if number % shown == 0:
            where = f"rotate(-30 {left + each / 2:.1f} {HEIGHT - BOTTOM + 14})"
            parts.append(_text(left + each / 2, HEIGHT - BOTTOM + 14, name, anchor="end", transform=where))
    return _page(title, parts)


def ticks(low: float, high: float) -> list[float]:
    """Return four to eleven round numbers that reach from ``low`` or below to ``high`` or above."""
    if high <= low:
        high = low + 1
    scale = 10.0 ** (len(str(int(high - low))) - 2)
    while (high - low) / scale > 100:
        scale *= 10
    step = next(
        factor * unit * scale
        for unit in (0.01, 0.1, 1, 10, 100)
        for factor in _STEPS
        if (high - low) / (factor * unit * scale) <= 9
    )
    first = int(low // step)
    return [round(step * number, 9) for number in range(first, int(-(-high // step)) + 1)]


class _Place:
    """Where values are on the page."""

    def __init__(self, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> None:
        self.x_ticks, self.y_ticks = x_ticks, y_ticks

    def x(self, value: float) -> float:
        low, high = self.x_ticks[0], self.x_ticks[-1]
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_ticks[0], self.y_ticks[-1]
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def _axes(place: _Place, x: str, y: str, *, x_labels: bool = True) -> list[str]:
    floor = HEIGHT - BOTTOM
    parts = []
    for value in place.y_ticks:
        at = place.y(value)
        parts.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 6, at + 4, f"{value:g}", anchor="end"))
    labels = place.x_ticks if x_labels else ()
    parts += [_text(place.x(value), floor + 16, f"{value:g}", anchor="middle") for value in labels]
    parts.append(f'<path d="M{LEFT} {TOP}V{floor}H{WIDTH - RIGHT}" fill="none" stroke="#444"/>')
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x, anchor="middle"))
    turned = f"rotate(-90 16 {(TOP + floor) / 2:.0f})"
    parts.append(_text(16, (TOP + floor) / 2, y, anchor="middle", transform=turned))
    return parts


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", fill: str = "#222", transform: str = ""
) -> str:
    turned = f' transform="{transform}"' if transform else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}"{turned}>{escape(text)}</text>'


def _page(title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n'
        + _text(LEFT, 18, title)
        + "\n"
        + "\n".join(parts)
        + "\n</svg>\n"
    )
