"""python -m ffdetect.audit DATA."""

import sys

from .audit import main

sys.exit(main())
