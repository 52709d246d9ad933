"""`python -m secondnature`."""

from secondnature.cli import main

main()
