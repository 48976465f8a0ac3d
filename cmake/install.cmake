# Installation: program, libraries, header, pkg-config file, CMake package, manual, completions.
