"""``python -m smm_bt`` is ``smm-bt``."""

from smm_bt.app.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
