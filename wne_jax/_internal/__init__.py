"""Internal helpers shared by the packages: compiling, precision, files, progress."""
