"""Settings of the documentation; `make docs` builds it, and a warning ends the build."""

from scsnet_bids import __version__

project = "scsnet-bids"
author = "the scsnet-bids authors"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"scsnet-bids {release}"
html_copy_source = False

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
# Several dataclasses have a field of the same name, and a docstring may mention either.
suppress_warnings = ["ref.python"]
