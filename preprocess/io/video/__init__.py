"""What a clip needs beyond its packets: time, choice of frames, and how they are shown."""
