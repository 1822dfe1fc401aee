"""One module for each section of the domain that is not a device."""
