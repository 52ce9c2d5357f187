"""python -m ffdetect.provenance FILE ...: see `command`."""

import sys

from .command import main

sys.exit(main())
