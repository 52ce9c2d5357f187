"""python -m ffdetect.predict: see `ffdetect.scoring.predict`."""

from ffdetect.scoring.predict import main
from preprocess.arguments import finish

if __name__ == "__main__":
    finish(main)
