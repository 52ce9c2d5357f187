"""python -m ffdetect.calibrate: see `ffdetect.training.calibrate`."""

from preprocess.arguments import run

if __name__ == "__main__":
    run("ffdetect.training.calibrate")
