"""python -m ffdetect.train: see `ffdetect.training.train`."""

from preprocess.arguments import run

if __name__ == "__main__":
    run("ffdetect.training.train")
