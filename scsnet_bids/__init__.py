"""Region-wise diffusion metrics of the cervical spinal cord, as a BIDS App."""

__version__ = "0.1.0"
