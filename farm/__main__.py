"""`python -m farm` is `rendermill`."""

from farm.cli import main

main()
