"""python -m ffdetect.explain: see `ffdetect.scoring.explain`."""

import sys

from ffdetect.scoring.explain import main

if __name__ == "__main__":
    sys.exit(main())
