"""From pictures, clips and sound to scores, verdicts and what explains them."""
