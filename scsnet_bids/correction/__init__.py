"""What undoes the scan: motion, eddy currents, distortion, noise, and the step from B0 to DWI.

``motion`` finds the displacement of every slice (``jumps`` those of a whole volume that are too
long for it, ``slice_matching`` measures it in ``slice_patches`` against what ``slice_prediction``
expects, ``displacement`` believes all slices together), ``eddy`` and ``distortion`` what bends them
along the phase-encode axis, and ``resampling`` applies all of it in one ``interpolation``.
``outliers`` then finds what has lost its signal, by ``robust_regression``,
``averages`` makes the means, ``alignment`` brings B0 to DWI. ``denoising`` comes before all of it,
if it is asked for.
"""
