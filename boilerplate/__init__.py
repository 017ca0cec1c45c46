"""Texts and references that end up in the outputs."""
