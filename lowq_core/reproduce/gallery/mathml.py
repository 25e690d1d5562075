"""Sphinx extension: formulas as MathML, which browsers draw themselves, instead of a script from the net."""

from __future__ import annotations

from html import escape
from typing import Any

from docutils.nodes import SkipNode, math, math_block  # type: ignore[import-untyped]
from docutils.utils.math import MathError  # type: ignore[import-untyped]
from docutils.utils.math.latex2mathml import tex2mathml  # type: ignore[import-untyped]
from sphinx.application import Sphinx


def to_mathml(latex: str, *, block: bool) -> str:
    r"""The formula as MathML, or as it is typed where it is beyond docutils' converter.

    Bars and hats are not marked as accents: with a font that has no mathematical tables, browsers would draw
    those inside the letter, where nobody sees them.

    >>> to_mathml(r"x^2", block=False).startswith("<math")
    True
    >>> "accent" in to_mathml(r"\bar F", block=False)
    False
    >>> to_mathml(r"\nosuchmacro{x}", block=False)
    '<code>\\nosuchmacro{x}</code>'
    """
    try:
        return str(tex2mathml(latex.strip(), as_block=block)).replace(' accent="true"', "")
    except (MathError, SyntaxError, KeyError):
        return f"<code>{escape(latex)}</code>"


def _inline(translator: Any, node: math) -> None:
    translator.body.append(to_mathml(node.astext(), block=False))
    raise SkipNode


def _block(translator: Any, node: math_block) -> None:
    translator.body.append(f'<div class="math">{to_mathml(node.astext(), block=True)}</div>\n')
    raise SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the renderer to Sphinx as `mathml`."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
