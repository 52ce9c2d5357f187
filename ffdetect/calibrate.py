"""python -m ffdetect.calibrate: see `ffdetect.training.calibrate`."""

import sys

from ffdetect.training.calibrate import main

if __name__ == "__main__":
    sys.exit(main())
