"""One module for each device family: QEMU's defaults, validation and command line."""
