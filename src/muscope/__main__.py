"""``python -m muscope`` is the command line."""

from muscope.cli import main

main()
