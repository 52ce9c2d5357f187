"""One module for each place in which a file says something of itself."""
