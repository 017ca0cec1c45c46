"""Speed and quality beside other tools, on this machine: ``scsnet-bids-benchmark``.

``command`` reads the command line. ``motion`` compares ways to correct motion: ``motion_cases``
makes series with known motion, ``motion_methods`` corrects them, each in a process of its own
(``method_job``), and ``motion_measures`` judges. ``pipeline`` measures the whole app (``app_job``
runs it and times its steps, ``cpu_kinds`` says what the time goes to) beside ``peers``. ``growth``
lets the series grow. ``children`` measures processes, ``figures_of_runs`` writes what repeated
runs give.
"""
