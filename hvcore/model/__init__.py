"""The domain model: what a libvirt domain document says, as typed classes without policy."""
