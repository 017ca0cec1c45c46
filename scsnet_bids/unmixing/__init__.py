"""Region values without partial volume and noise.

``transfer`` brings the network's regions to DTI space, ``sharpening`` fits their outline to the
series (or ``mask_fitting`` to a given mask), ``signals`` unmixes the regions' signals,
``region_tensor`` fits their tensors, ``noise`` and ``borders`` say how surely, ``table`` writes it.
"""
