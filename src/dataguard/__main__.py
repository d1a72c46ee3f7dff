"""``python -m dataguard``: the command line."""

from dataguard.cli.main import main

main()
