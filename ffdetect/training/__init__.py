"""From a cache to weights by descent: data, augmentation, fitting, calibrating."""
