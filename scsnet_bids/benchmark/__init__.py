"""Speed and quality beside other tools, on this machine: ``scsnet-bids-benchmark``.

``command`` reads the command line. ``motion`` compares ways to correct motion, and ``motion_grid``
ours with the best other one on many phantoms: ``motion_cases`` makes series with known motion,
``motion_methods`` corrects them, each in a process of its own (``method_job``), and
``motion_measures`` judges, by ``shift_search`` and ``sharpness`` where the truth is not known.
``region_values`` compares ways to measure a region, also in ``drawn_cords``. ``pipeline`` measures
the whole app (``app_job`` runs it and times its steps, ``cpu_kinds`` says what the time goes to)
beside ``peers``. ``growth`` and ``motion_growth`` let the series grow. ``children`` measures
processes, ``figures_of_runs`` writes what repeated runs give, ``machine`` what they ran on.
"""
