"""FSL's eddy and topup, where FSL is installed, and FLIRT matrices for those who use it."""
