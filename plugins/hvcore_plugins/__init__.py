"""The plugins shipped with hvcore, one file per feature."""
