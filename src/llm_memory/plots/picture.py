"""A picture with its text alternative, still or moved by controls, and the style of all of them.

Still pictures are PNG with a description in words below. Moving ones update the value of one
`widgets.HTML`; where no kernel runs, the same output shows the still picture instead.
"""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

# Okabe and Ito's palette, told apart with any colour vision (https://jfly.uni-koeln.de/color/).
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, RED, YELLOW, BLACK = "#56B4E9", "#D55E00", "#F0E442", "#000000"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED)
# Beside colour, so that it is never the only signal.
HATCHES = ("", "//", "..", "xx", "\\\\", "oo")
MARKERS = ("o", "s", "^", "D", "v", "P")

# An opaque, nearly white sheet reads well in a light theme and in a dark one.
PAPER, INK, FAINT = "#FCFBF8", "#1F2430", "#666B75"
STYLE = {
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "hatch.linewidth": 0.7,
    "legend.frameon": False,
    "text.color": INK,
    "text.parse_math": False,  # a token may be a dollar sign
    "xtick.color": INK,
    "ytick.color": INK,
}
DPI = 110
#: For numbers of either sign: dark below 0, light above, so the sign is there in grey, too.
SIGNED = "cividis"


def ink_on_signed(number: float) -> str:
    """Return the colour of text that is read on `SIGNED`'s colour of a number."""
    return PAPER if number < 0 else INK


def styled(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Run a drawing function in the lessons' style, whatever style the notebook has chosen."""

    @functools.wraps(draw)
    def drawing(*args: Any, **kwargs: Any) -> Any:
        with matplotlib.style.context(["default", STYLE]):
            return draw(*args, **kwargs)

    return drawing


@dataclass(frozen=True)
class Picture:
    """A drawn figure, and what it shows in words; `alt` is what a reader without it needs."""

    figure: Figure
    alt: str

    @functools.cached_property
    @styled
    def png(self) -> bytes:
        """The figure as PNG. Drawn once: laying a figure out again may move it by a pixel."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
        return buffer.getvalue()

    def html(self) -> str:
        """Return an `<img>` with its alternative."""
        data = base64.b64encode(self.png).decode()
        image = f'<img src="data:image/png;base64,{data}" alt="{escape(self.alt)}"'
        return f'{image} style="max-width: 100%">'

    def words(self) -> str:
        """Return the description as HTML that opens on request."""
        return (
            '<details style="font-size: 85%; opacity: 0.85"><summary>The picture in words'
            f"</summary>{escape(self.alt)}</details>"
        )

    def show(self, sheet: Any = None, words: Any = None) -> None:
        """Display the picture and its words below: JupyterLab gives a PNG no alternative.

        Widgets given as `sheet` and `words` take their places where a kernel runs.
        """
        from IPython.display import display

        picture = {"image/png": base64.b64encode(self.png).decode(), "text/plain": self.alt}
        alternative = {"image/png": {"alt": self.alt}}
        display(picture | _view(sheet), metadata=alternative, raw=True)
        below = {"text/html": self.words(), "text/plain": "The words above describe the picture."}
        display(below | _view(words), raw=True)


class MovingPicture:
    """A picture that its controls draw anew; `draw` gets their values by name."""

    def __init__(self, draw: Callable[..., Picture], controls: Mapping[str, Any]) -> None:
        """`controls` are ipywidgets with a `value`, by the names of `draw`'s arguments."""
        self.draw, self.controls = styled(draw), dict(controls)

    def picture(self) -> Picture:
        """Return the picture for the controls' present values."""
        return self.draw(**{name: control.value for name, control in self.controls.items()})

    def show(self) -> None:
        """Display controls and picture, and the still picture for where no kernel runs."""
        import ipywidgets as widgets

        first = self.picture()
        sheet, words = widgets.HTML(first.html()), widgets.HTML(first.words())

        def redraw(_change: Any) -> None:
            now = self.picture()
            sheet.value, words.value = now.html(), now.words()

        for control in self.controls.values():
            control.observe(redraw, names="value")
        first.show(widgets.VBox([*self.controls.values(), sheet]), words)


def _view(widget: Any) -> dict[str, Any]:
    """Return what makes an output show `widget`, in ipywidgets 7 and 8 alike."""
    if widget is None:
        return {}
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    return {"application/vnd.jupyter.widget-view+json": view}


def axes(
    rows: int = 1, columns: int = 1, size: tuple[float, float] = (8, 3), **grid: Any
) -> tuple[Figure, list[Axes]]:
    """Return a figure, size in inches, and its axes row by row; `grid` goes to its GridSpec."""
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    made = figure.subplots(rows, columns, squeeze=False, gridspec_kw=grid)
    return figure, list(made.ravel())


def canvas(size: tuple[float, float], width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure for a diagram: one set of axes, from (0, 0) to (width, height), no frame."""
    figure = Figure(figsize=size)
    plane = figure.add_axes((0, 0, 1, 1))
    plane.set(xlim=(0, width), ylim=(0, height))
    plane.axis("off")
    return figure, plane


def slider(label: str, options: list[tuple[str, Any]], value: Any) -> Any:
    """Return a slider over named values; the arrow keys move it."""
    import ipywidgets as widgets

    return widgets.SelectionSlider(
        options=options,
        value=value,
        description=label,
        continuous_update=False,
        style={"description_width": "initial"},
        layout={"width": "min(30em, 95%)"},
    )


def choice(label: str, options: list[tuple[str, Any]], value: Any) -> Any:
    """Return a drop-down list over named values."""
    import ipywidgets as widgets

    return widgets.Dropdown(
        options=options,
        value=value,
        description=label,
        style={"description_width": "initial"},
        layout={"width": "max-content"},
    )
