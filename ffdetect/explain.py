"""python -m ffdetect.explain: see `ffdetect.scoring.explain`."""

from ffdetect.scoring.explain import main
from preprocess.arguments import finish

if __name__ == "__main__":
    finish(main)
