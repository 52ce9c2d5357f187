"""Faces in pixels: found, followed through a clip, cut out, and the maps of what was cut out."""
