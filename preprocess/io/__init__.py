"""Bytes to arrays and back: pictures, clips, sound, and where they are stored."""
