"""python -m ffdetect.audit DATA."""

from preprocess.arguments import finish

from .audit import main

finish(main)
