"""Find defects on photographs of parts when all you have is "good" or "defective" per image."""

__version__ = "0.1.0"
