"""Matplotlib axes that a notebook draws. Imported only where a picture is made: Matplotlib is an extra."""

from __future__ import annotations

import io
from typing import cast

from matplotlib.axes import Axes
from matplotlib.figure import Figure


class PictureAxes(Axes):
    """Axes that show themselves as a picture when they are the value of a notebook's cell."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        cast("Figure", self.figure).savefig(file, format="png")
        return file.getvalue()


def new_axes() -> Axes:
    """Empty axes in a figure of their own.

    Not through pyplot: it keeps every figure alive and needs a display backend. A notebook draws
    by itself only what pyplot keeps, hence `PictureAxes`.
    """
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    return figure.add_subplot(axes_class=PictureAxes)
