"""`python -m triscale` is the `triscale` command."""

from triscale.cli.main import main

main()
