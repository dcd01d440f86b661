"""The command line, a file per group of commands. Only these files print and parse options."""
