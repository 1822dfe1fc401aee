"""One module for each family of devices."""
