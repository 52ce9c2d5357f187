"""python -m ffdetect.calibrate: see `ffdetect.training.calibrate`."""

from ffdetect.training.calibrate import main
from preprocess.arguments import finish

if __name__ == "__main__":
    finish(main)
