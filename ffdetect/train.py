"""python -m ffdetect.train: see `ffdetect.training.train`."""

from ffdetect.training.train import main
from preprocess.arguments import finish

if __name__ == "__main__":
    finish(main)
