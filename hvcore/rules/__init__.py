"""Rules that hold for every driver, one module for each family of elements."""
