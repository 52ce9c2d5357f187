"""How well scores tell fake from real: every AUC, interval, threshold and split comes from here."""
