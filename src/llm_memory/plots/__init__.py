"""Pictures for the lessons: each has a text alternative, and moving ones a still fallback.

A new kind of picture is a function in a module here that returns a `Picture`, or a
`MovingPicture` for one with controls; lessons call its `.show()`.
"""

from llm_memory.plots.attention import (
    arcs,
    explore,
    heat_maps,
    scores_mask_weights,
    shuffled_rows,
)
from llm_memory.plots.charts import bars, histograms, predictions, sharpness
from llm_memory.plots.diagrams import grouped_heads, layer_shapes, whole_model
from llm_memory.plots.picture import MovingPicture, Picture, choice, slider

__all__ = [
    "MovingPicture",
    "Picture",
    "arcs",
    "bars",
    "choice",
    "explore",
    "grouped_heads",
    "heat_maps",
    "histograms",
    "layer_shapes",
    "predictions",
    "scores_mask_weights",
    "sharpness",
    "shuffled_rows",
    "slider",
    "whole_model",
]
