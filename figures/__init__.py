"""Every figure with its numbers: ``python -m figures`` computes, draws and checks them, and writes one report.

A figure is a module ``figures/<stem or paper>_<topic>.py``. The first sentence of its docstring is the claim it
shows, and it defines

``compute(fast: bool) -> xarray.Dataset``
    theory and measurement, both labelled; with ``fast`` a coarser version in seconds, and no plotting,
``draw(data) -> matplotlib.figure.Figure``
    the picture: lines are theory, points with bars are measurement (see ``_style``),
``checks(data) -> Iterable[Check]``
    the numbers (see ``_check``).

``draw`` and ``checks`` are handed the data as read back from the saved file, so whatever the report shows can be had
from that file alone. Modules whose names start with an underscore are not figures. What two figures share lives in
such a module, never in one of the two.
"""
