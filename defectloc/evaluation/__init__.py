"""Image, pixel and box scores by the field's protocols, on predictions of any origin; NumPy and pandas only."""
