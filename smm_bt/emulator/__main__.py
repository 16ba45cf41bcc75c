"""``python -m smm_bt.emulator``: serve the embedded exchange until interrupted."""

import sys

from smm_bt.emulator.command import main

sys.exit(main())
