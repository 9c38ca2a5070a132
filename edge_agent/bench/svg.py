"""A small writer of SVG: shapes and text with the classes of one style sheet, light and dark. Pure.

ElementTree does the escaping; what XML cannot hold at all (controls, noncharacters) becomes an escape or a
sign. Colours are those of Okabe and Ito, which colour-blind people tell apart; the second series is dashed
besides.
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias
from xml.etree import ElementTree as Xml

from edge_agent.screen.safe import safe

Anchor: TypeAlias = Literal["start", "middle", "end"]

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', 'Noto Sans', 'Noto Sans CJK TC', sans-serif"
_STYLE = f"""
text {{ font-family: {_FONT}; font-size: 13px; fill: #1f2328; }}
.title {{ font-size: 18px; font-weight: 600; }}
.heading {{ font-size: 14px; font-weight: 600; }}
.small, .tick {{ font-size: 12px; fill: #59636e; }}
.paper {{ fill: #ffffff; }}
.grid {{ stroke: #d1d9e0; stroke-width: 1; }}
.axis {{ stroke: #818b98; stroke-width: 1; }}
.ours {{ fill: #0072b2; }}
.peer {{ fill: #d55e00; }}
.line {{ fill: none; stroke-width: 2.2; stroke-linejoin: round; }}
.line.ours {{ stroke: #0072b2; }}
.line.peer {{ stroke: #d55e00; stroke-dasharray: 7 3; }}
@media (prefers-color-scheme: dark) {{
  text {{ fill: #e6edf3; }}
  .small, .tick {{ fill: #9198a1; }}
  .paper {{ fill: #0d1117; }}
  .grid {{ stroke: #2f353d; }}
  .axis {{ stroke: #656c76; }}
  .ours {{ fill: #56b4e9; }}
  .peer {{ fill: #e69f00; }}
  .line {{ fill: none; }}
  .line.ours {{ stroke: #56b4e9; }}
  .line.peer {{ stroke: #e69f00; }}
}}
"""


class Drawing:
    """One picture; lengths are pixels of its own, y goes down.

    Args:
        width: of the picture.
        height: of the picture.
        title: what it is, for those who hear it.
        description: what it tells.
    """

    def __init__(self, width: float, height: float, *, title: str, description: str) -> None:
        self._root = Xml.Element(
            "svg",
            {
                "xmlns": "http://www.w3.org/2000/svg",
                "viewBox": f"0 0 {_number(width)} {_number(height)}",
                "width": _number(width),
                "height": _number(height),
                "role": "img",
            },
        )
        Xml.SubElement(self._root, "title").text = clean(title)
        Xml.SubElement(self._root, "desc").text = clean(description)
        Xml.SubElement(self._root, "style").text = _STYLE
        self.rectangle(0, 0, width, height, "paper")

    def text(self, x: float, y: float, words: str, style: str = "", anchor: Anchor = "start") -> None:
        """A line of text; y is its base line."""
        attributes = {"x": _number(x), "y": _number(y), "text-anchor": anchor}
        if style:
            attributes["class"] = style
        Xml.SubElement(self._root, "text", attributes).text = clean(words)

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str) -> None:
        """A straight line."""
        places = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
        Xml.SubElement(
            self._root, "line", {**{name: _number(at) for name, at in places.items()}, "class": style}
        )

    def rectangle(self, x: float, y: float, width: float, height: float, style: str) -> None:
        """A filled rectangle."""
        places = {"x": x, "y": y, "width": max(0.0, width), "height": max(0.0, height)}
        Xml.SubElement(
            self._root, "rect", {**{name: _number(at) for name, at in places.items()}, "class": style}
        )

    def circle(self, x: float, y: float, radius: float, style: str) -> None:
        """A filled circle."""
        Xml.SubElement(
            self._root,
            "circle",
            {"cx": _number(x), "cy": _number(y), "r": _number(radius), "class": style},
        )

    def path(self, points: list[tuple[float, float]], style: str) -> None:
        """A line through points."""
        steps = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
        Xml.SubElement(self._root, "polyline", {"points": steps, "class": style})

    def finish(self) -> str:
        """The document."""
        Xml.indent(self._root, space=" ")
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(self._root, encoding="unicode") + "\n"
        )


def clean(words: str) -> str:
    """Text that XML can hold: no controls, nothing that turns the direction of what follows."""
    return _NOT_XML.sub("\ufffd", safe(words, 300))


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
