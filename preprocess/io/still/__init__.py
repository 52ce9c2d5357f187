"""What a still picture needs beyond Pillow."""
