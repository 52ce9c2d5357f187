"""Scores how likely a voice is to be made by a machine: ``VoiceDetector.load().score("a.wav")``."""

from .detector import VoiceDetector, VoiceScore, VoiceWindow

__all__ = ["VoiceDetector", "VoiceScore", "VoiceWindow"]
