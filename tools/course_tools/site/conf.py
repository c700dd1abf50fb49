"""Sphinx's settings for the site; `course_tools.site.pages` writes what it reads."""

from course_tools.build import course

project = "Memory and Processing in LLMs"
author = "the course's authors"
copyright = "its authors; code MIT, lessons CC BY 4.0"
version = release = course.version(course.root())
language = "en"

extensions = ["myst_nb", "course_tools.site.mathml"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
myst_heading_slug_func = "course_tools.site.pages.slug"
nb_execution_mode = "off"  # `make build` ran them
nb_merge_streams = True

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["static", "pictures", "downloads"]
html_css_files = ["course.css"]
html_js_files = ["course.js"]
html_context = {"default_mode": "auto"}
html_favicon = "static/icon.svg"
html_copy_source = False
html_show_sourcelink = False
html_math_renderer = "mathml"
html_theme_options = {
    "repository_url": course.repository(course.root()),
    "use_repository_button": True,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_toc_level": 2,
}
