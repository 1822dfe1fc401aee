"""The test driver of hvcore: domains that live in memory only."""
