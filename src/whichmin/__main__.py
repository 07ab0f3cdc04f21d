"""``python -m whichmin``: the command line."""

import sys

from whichmin.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
