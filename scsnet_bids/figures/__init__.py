"""Pictures to judge a run by: arrays and tables in, SVG out."""

PICTURES = (
    "b0regions",
    "dwiregions",
    "faregions",
    "directions",
    "uncorrected",
    "corrected",
    "uncorrectedlines",
    "correctedlines",
    "displacement",
    "carpet",
    "faprofile",
    "mdprofile",
    "asymmetry",
    "shape",
)
"""Every picture of a run, by the entity ``desc`` of its file."""
