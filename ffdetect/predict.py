"""python -m ffdetect.predict: see `ffdetect.scoring.predict`."""

from preprocess.arguments import check_folder, finish

if __name__ == "__main__":
    check_folder("python -m ffdetect.predict")  # before PyTorch, which is ended without one

from ffdetect.scoring.predict import main

if __name__ == "__main__":
    finish(main)
