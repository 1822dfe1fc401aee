#!/bin/busybox sh
# Run by acpid when the ACPI power button is pressed.
echo HVCORE-GUEST-POWER-BUTTON >/dev/console
exec /bin/poweroff -f
