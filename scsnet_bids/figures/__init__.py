"""Pictures to judge a run by: arrays and tables in, SVG out."""

SHOWN_AS: dict[str, tuple[float, str]] = {"FA": (1.0, "FA"), "MD": (1e3, "MD (10⁻³ mm²/s)")}
"""The metrics that pages and pictures show: factor of the value, and label."""
