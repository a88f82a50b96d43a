"""Runs the command line as ``python -m vcfbert``. ``torchrun -m vcfbert`` requires this module."""

from vcfbert.cli.app import main

if __name__ == "__main__":
    main()
