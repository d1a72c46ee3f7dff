"""Row alignment without a key: which suspect column and row is which original one."""
