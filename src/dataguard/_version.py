"""The version, in one place that everything may import."""

VERSION = "dataguard 0.1.0"
