"""Maps and scores in; thresholds, probabilities, verdicts and boxes in the image's own pixels out; no torch."""
