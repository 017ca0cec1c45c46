"""Nipype graphs, one stage a file; no arithmetic happens here."""
