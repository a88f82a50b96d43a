"""DVC stages: each loads its configuration, calls the library and writes its outputs."""
