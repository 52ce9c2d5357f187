"""python -m ffdetect: the command `ffdetect`."""

from .cli import main

main()
