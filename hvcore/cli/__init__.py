"""hv: virsh's verbs on the library, without a daemon."""
