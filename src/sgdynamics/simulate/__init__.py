"""Running the models, fast; the subpackage ``trainer`` runs real networks and needs no Numba."""
