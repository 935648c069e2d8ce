"""Image, pixel and box scores by the field's protocols, on anybody's predictions; NumPy and pandas only."""
