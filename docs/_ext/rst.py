"""Words of reStructuredText."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def title(text: str, line: str = "=") -> str:
    """A heading."""
    return f"{text}\n{line * len(text)}\n\n"


def plain(text: str) -> str:
    """Text in which nothing is markup."""
    for sign in ("\\", "*", "`", "_", "|"):
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def indented(text: str, by: str = "   ") -> str:
    """The same, further right."""
    return "".join(by + line if line.strip() else line for line in text.splitlines(keepends=True))


def toctree(pages: Iterable[str], *, hidden: bool = False) -> str:
    """A list of pages."""
    options = "   :hidden:\n" if hidden else "   :maxdepth: 1\n"
    return f".. toctree::\n{options}\n" + "".join(f"   {page}\n" for page in pages) + "\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], widths: str = "auto") -> str:
    """A table whose cells are markup."""
    body = "".join("* - " + "\n  - ".join(row) + "\n" for row in (heads, *rows))
    return f".. list-table::\n   :header-rows: 1\n   :widths: {widths}\n\n{indented(body)}\n"


def raw(html: str) -> str:
    """HTML as it is."""
    return f".. raw:: html\n\n{indented(html)}\n\n"
