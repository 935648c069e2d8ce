"""Maps in, thresholds, calibrated probabilities and boxes in the image's own pixels out; NumPy and pandas only."""
