"""Plots of rate against number of flows as SVG: one panel per case, one line per switch, bars from the least to the most."""

from __future__ import annotations

import math
from html import escape
from typing import Any

Row = dict[str, Any]

# A panel's drawing area, and what is around it, in pixels.
WIDTH, HEIGHT = 300, 200
LEFT, TOP, RIGHT, BOTTOM = 52, 34, 18, 48
COLUMNS = 3
HEAD, FOOT = 52, 8
# Colours that people who see few of them can tell apart, and a mark for each.
STYLES = {"weft": ("#d55e00", "circle"), "ovs": ("#0072b2", "square"), "testpmd": ("#666666", "diamond")}
OTHER = ("#009e73", "circle")


def steps(top: float) -> list[float]:
    """Round numbers from 0 to at least `top`, about five of them."""
    size = 10 ** math.floor(math.log10(max(top, 1e-9) / 5))
    step = next(size * n for n in (1, 2, 5, 10) if size * n * 6 >= top)
    return [step * i for i in range(math.ceil(top / step - 1e-9) + 1)]


def short(n: int) -> str:
    """1000 as 1k, 1000000 as 1M."""
    for unit, word in (1_000_000, "M"), (1_000, "k"):
        if n >= unit and n % unit == 0:
            return f"{n // unit}{word}"
    return str(n)


def line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width:g}"/>'


def words(x: float, y: float, content: str, anchor: str = "middle", size: int = 11, extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" {extra}>{escape(content)}</text>'


def mark(shape: str, x: float, y: float, colour: str) -> str:
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>'
    turn = f' transform="rotate(45 {x:.1f} {y:.1f})"' if shape == "diamond" else ""
    return f'<rect x="{x - 3.2:.1f}" y="{y - 3.2:.1f}" width="6.4" height="6.4" fill="{colour}"{turn}/>'


def panel(title: str, rows: list[Row], flows: list[int]) -> list[str]:
    """One case, its drawing area's upper left corner at 0, 0."""
    ticks = steps(max(r["max"] for r in rows))
    low, high = math.log10(flows[0]), math.log10(flows[-1])

    def x(n: int) -> float:
        # A single number of flows stands in the middle.
        return WIDTH / 2 if high == low else 14 + (WIDTH - 28) * (math.log10(n) - low) / (high - low)

    def y(mpps: float) -> float:
        return HEIGHT * (1 - mpps / ticks[-1])

    out = [words(WIDTH / 2, -12, title, size=13, extra='font-weight="bold"')]
    for tick in ticks:
        out += [line(0, y(tick), WIDTH, y(tick), "#dddddd"), words(-6, y(tick) + 4, f"{tick:g}", "end")]
    for n in flows:
        out += [line(x(n), HEIGHT, x(n), HEIGHT + 4, "#333333"), words(x(n), HEIGHT + 17, short(n))]
    out += [line(0, HEIGHT, WIDTH, HEIGHT, "#333333"), words(WIDTH / 2, HEIGHT + 34, "flows"),
            words(-36, HEIGHT / 2, "Mpps", extra=f'transform="rotate(-90 -36 {HEIGHT / 2:g})"')]
    for place, switch in enumerate(dict.fromkeys(r["switch"] for r in rows)):
        colour, shape = STYLES.get(switch, OTHER)
        # Beside one another, so that bars of the same height do not hide each other.
        points = [(x(r["flows"]) + 3 * (place - 1), r) for r in sorted(rows, key=lambda r: r["flows"]) if r["switch"] == switch]
        path = " ".join(f"{at:.1f},{y(r['mpps']):.1f}" for at, r in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        for at, row in points:
            out += [line(at, y(row["min"]), at, y(row["max"]), colour), mark(shape, at, y(row["mpps"]), colour)]
            if row["limited_by_generator"]:
                out.append(words(at + 6, y(row["mpps"]) - 4, "!", "start", extra=f'fill="{colour}"'))
    return out


def flows(rows: list[Row], subtitle: str) -> str:
    """The plot of rows of one regime (as report.rates makes them), as an SVG document."""
    cases: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        tunnel = "" if row["case"] == "l2" else row["tunnel"]
        cases.setdefault((row["case"], tunnel, row["size"], row["virtio"]), []).append(row)
    columns = min(COLUMNS, len(cases))
    axis = sorted({row["flows"] for row in rows})
    wide, tall = LEFT + WIDTH + RIGHT, TOP + HEIGHT + BOTTOM
    width, height = columns * wide, HEAD + math.ceil(len(cases) / columns) * tall + FOOT
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
           'font-family="sans-serif" fill="#222222">', f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
           words(12, 20, subtitle, "start", 12)]
    at = 16.0
    for switch in dict.fromkeys(r["switch"] for r in rows):
        colour, shape = STYLES.get(switch, OTHER)
        out += [mark(shape, at, 37, colour), words(at + 8, 41, switch, "start", 12)]
        at += 30 + 7 * len(switch)
    if any(row["limited_by_generator"] for row in rows):
        out.append(words(at, 41, "! the generator may have been the limit", "start", 11))
    for number, (name, members) in enumerate(cases.items()):
        title = f"{name[0]} {name[1]}".strip() + (", imix" if name[2] == "imix" else f", {name[2]} B")
        title += "" if name[3] == "vector" else f", {name[3]}"
        corner = (number % columns * wide + LEFT, HEAD + number // columns * tall + TOP)
        out += [f'<g transform="translate({corner[0]} {corner[1]})">', *panel(title, members, axis), "</g>"]
    return "\n".join([*out, "</svg>"]) + "\n"
