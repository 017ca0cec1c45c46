"""How SCS-Net is trained. Nothing here is needed to use a trained network.

Anatomy (``atlas``, ``shapes``) becomes slices (``synthesis``, ``augment``), people's drawings
become slices too (``manual``, ``manual_files``), ``sources`` mixes both, ``trainer`` learns from
them and ``validation`` scores what it has learnt. ``trials`` and ``diffusion_contrast`` serve the
experiments in tests/benchmarks that compare networks and inputs.
"""
