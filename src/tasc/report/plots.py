"""One style for all figures: matplotlib SVG, safe for colour-blind readers, for light and for dark pages.

A figure is drawn without a window and comes back as SVG text. The same values give the same text: no date, no random
ids. Text stays text. Everything that is not data is drawn in one grey, which `inline` replaces by the page's own colour.
"""

import re
import warnings
from collections.abc import Callable, Sequence
from html import escape
from io import StringIO
from typing import Any

INK = "#767d89"  # readable on white and on black
# about equally far from white and from black, and apart for the common kinds of colour blindness
BLUE, ORANGE, GREEN, PURPLE, BROWN = "#3a83d0", "#cc7a12", "#12926f", "#b565a7", "#96804a"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, BROWN, INK)
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
HATCHES = ("", "///", "...", "xxx")
SOURCES = {"corpus": BLUE, "neighbour": PURPLE, "prompt": ORANGE, "output": GREEN, "memory": BROWN}  # as on the page

STYLE: Any = {  # matplotlib names the keys in a type of its own
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.axisbelow": True,
    "font.family": "DejaVu Sans",  # comes with matplotlib; measured with it, shown in the page's font
    "font.size": 10,
    "grid.alpha": 0.25,
    "grid.color": INK,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "tasc",
    "text.color": INK,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "xtick.color": INK,
    "ytick.color": INK,
}


def error_bars(values: Sequence[float], ends: Sequence[Sequence[float]]) -> list[list[float]]:
    """Distances to the lower and upper ends, as matplotlib wants them.

    Rounding can leave an end on the wrong side of its value; the distance is 0 then.
    """
    pairs = list(zip(values, ends, strict=True))
    return [
        [max(value - low, 0.0) for value, (low, _) in pairs],
        [max(high - value, 0.0) for value, (_, high) in pairs],
    ]


def draw(draw_on: Callable[[Any], None], *, width: float = 4.4, height: float = 2.9) -> str:
    """SVG text of a figure.

    Args:
        draw_on: draws on a `matplotlib.figure.Figure`.
        width, height: inches.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # letters that DejaVu lacks are only measured wrongly; the reader's fonts draw them
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw_on(figure)
        buffer = StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return _fonts(_plain(buffer.getvalue()))


def inline(svg: str, *, prefix: str, label: str) -> str:
    """The SVG as part of a page: ids of its own, the page's text colour, a label for those who do not see it.

    Args:
        svg: what `draw` gave.
        prefix: in front of every id; letters, digits and `-`, another one for each figure of the page.
        label: what the figure shows, as text.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r'\bid="', f'id="{prefix}-', body)
    body = re.sub(r"url\(#", f"url(#{prefix}-", body)
    body = re.sub(r'xlink:href="#', f'xlink:href="#{prefix}-', body)
    body = body.replace(INK, "currentColor")
    quoted = _attribute(label)
    return re.sub(
        r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', rf'<svg role="img" aria-label="{quoted}" \1', body, count=1
    )


def _plain(svg: str) -> str:
    """Without the metadata block, which names the program and addresses of vocabularies."""
    return re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)


def _fonts(svg: str) -> str:
    return svg.replace("'DejaVu Sans'", "system-ui, sans-serif")


def _attribute(text: str) -> str:
    """Escaped for an attribute, and for a replacement of `re.sub`."""
    return escape(text, quote=True).replace("\\", r"\\")
