"""``python -m sgdynamics``, the same as the command ``sgdynamics``."""

from __future__ import annotations

import sys

from sgdynamics.cli import main

if __name__ == "__main__":
    sys.exit(main())
