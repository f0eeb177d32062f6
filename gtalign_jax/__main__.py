"""`python -m gtalign_jax` is `gtalign`."""

import sys

from gtalign_jax.cli.main import main

sys.exit(main())
