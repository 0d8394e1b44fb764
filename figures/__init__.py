"""Every figure with its numbers: ``python -m figures`` computes, draws and checks them, and writes one report.

A figure is a module ``figures/<row>/<stem or paper>_<topic>.py``, known by its last name alone; rows are those of
``sgdynamics.theory``. The first sentence of its docstring is the claim it shows, and it defines

``compute(fast: bool) -> xarray.Dataset``
    theory and measurement, both labelled; with ``fast`` a coarser version in seconds, and no plotting. Of a quantity
    x, ``x`` is the line of theory, ``x_measured`` with ``x_standard_error`` what was measured, and ``x_predicted``
    theory at the places that were measured,
``draw(data) -> matplotlib.figure.Figure``
    the picture: lines are theory, points with bars are measurement (see ``engine.style``),
``checks(data) -> Iterable[Check]``
    the numbers (see ``engine.check``).

``draw`` and ``checks`` are handed the data as read back from the saved file, so whatever the report shows can be had
from that file alone. Modules whose names start with an underscore are not figures. What two figures share lives in
such a module, never in one of the two; what all may use is the ``engine``.
"""
