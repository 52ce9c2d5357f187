"""python -m ffdetect.explain: see `ffdetect.scoring.explain`."""

from preprocess.arguments import run

if __name__ == "__main__":
    run("ffdetect.scoring.explain")
