"""The group level: tables of many participants, compared, from an output folder alone.

``collect`` gathers the tables, ``people`` reads who the participants are, ``values`` makes one
value per person, ``outliers``, ``norms``, ``differences`` and ``changes`` compare them, ``tables``
writes what they found, and ``page`` shows it.
"""
