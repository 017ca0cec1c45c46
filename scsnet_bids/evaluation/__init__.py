"""How good the results are: scores against the truth of phantoms and against manual masks.

``command`` is ``scsnet-bids-evaluate``; ``truth`` and ``network_scores`` compare, ``scores``,
``value_scores`` and ``motion_scores`` do the arithmetic, ``tables`` describes the outcome.
"""
