"""Configuration of the site: python -m sphinx -W docs docs/_build/html (extra `docs`)."""

import re
import shutil
from pathlib import Path

from wne_jax import __version__

project = "wne_jax"
author = "the authors of wne_jax"
copyright = author
release = version = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"wne_jax {version}"
default_role = "code"

autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_use_rtype = False
napoleon_use_ivar = True

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the tests execute them
nb_execution_timeout = 300
nb_execution_raise_on_error = True
suppress_warnings = ["ref.python"]  # attributes with the same name in several classes
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def tables(lines):
    """Convert Markdown tables to reStructuredText."""
    rest, out = list(lines), []
    while rest:
        if not rest[0].lstrip().startswith("| "):
            out.append(rest.pop(0))
            continue
        indent = re.match(" *", rest[0])[0]
        out += [f"{indent}.. list-table::", f"{indent}   :header-rows: 1", ""]
        while rest and rest[0].lstrip().startswith("|"):
            row = rest.pop(0).strip().removeprefix("|").removesuffix("|")
            if not row.startswith("---"):
                first, *others = (cell.strip() for cell in row.split("|"))
                out.append(f"{indent}   * - {first}")
                out += [f"{indent}     - {cell}" for cell in others]
        out.append("")
    return out


def display(match):
    """Convert a displayed formula."""
    body = "\n".join(f"   {line.strip()}" for line in match[2].strip().splitlines())
    return f"\n.. math::\n\n{body}\n".replace("\n", f"\n{match[1]}")


def docstring(app, what, name, obj, options, lines):
    """Convert the Markdown in a docstring: tables, and mathematics between dollar signs."""
    text = "\n".join(tables(lines))
    text = re.sub(r"^( *)\$\$(.+?)\$\$", display, text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\$([^$]+)\$", lambda m: f":math:`{' '.join(m[1].split())}`", text)
    lines[:] = text.splitlines()


def links(app, name, source):
    """Adapt links between pages and notebooks to the folders of the site."""
    source[0] = source[0].replace("](../notebooks/", "](notebooks/").replace("](../docs/", "](../")


def setup(app):
    """Copy the notebooks into the site, and connect the functions above."""
    here = Path(__file__).parent
    shutil.copytree(here.parent / "notebooks", here / "notebooks", dirs_exist_ok=True)
    app.connect("source-read", links)
    app.connect("autodoc-process-docstring", docstring, priority=100)
