"""python -m ffdetect.predict: see `ffdetect.scoring.predict`."""

from preprocess.arguments import run

if __name__ == "__main__":
    run("ffdetect.scoring.predict")
