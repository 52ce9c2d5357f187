"""python -m ffdetect.predict: see `ffdetect.scoring.predict`."""

import sys

from ffdetect.scoring.predict import main

if __name__ == "__main__":
    sys.exit(main())
