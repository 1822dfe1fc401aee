"""The QEMU driver of hvcore."""
