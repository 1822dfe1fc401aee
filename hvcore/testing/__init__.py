"""What hvcore ships for the tests of its users."""
