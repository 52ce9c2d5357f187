"""From a cache to weights: data, augmentation, fitting, calibrating."""
