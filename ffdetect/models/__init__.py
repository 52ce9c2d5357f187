"""Networks, the weights they are read from, and the calibration of what they say."""
