"""python -m ffdetect.train: see `ffdetect.training.train`."""

import sys

from ffdetect.training.train import main

if __name__ == "__main__":
    sys.exit(main())
