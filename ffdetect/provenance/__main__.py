"""python -m ffdetect.provenance FILE ...: see `command`."""

from preprocess.arguments import finish

from .command import main

finish(main)
