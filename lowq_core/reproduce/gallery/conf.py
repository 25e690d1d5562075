"""Sphinx settings of the HTML index: executed notebooks as they are, nothing from the net."""

project = "lowq"
extensions = ["myst_nb", "lowq_core.reproduce.gallery.mathml"]
nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js: dict[str, object] = {}
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_update_mathjax = False
html_math_renderer = "mathml"
html_theme = "alabaster"
html_theme_options = {
    "description": "image retrieval from bad pictures",
    "fixed_sidebar": True,
    "page_width": "1240px",
    "sidebar_width": "250px",
    "show_powered_by": False,
    "sidebar_collapse": True,
}
html_sidebars = {"**": ["about.html", "navigation.html", "searchbox.html"]}
html_static_path = ["_static"]
html_css_files = ["lowq.css"]
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
suppress_warnings = ["myst.xref_missing", "mystnb.unknown_mime_type"]
