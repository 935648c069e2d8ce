"""What `defectloc explain` is made of: who is asked, about which images and classes, and what becomes of the maps."""
