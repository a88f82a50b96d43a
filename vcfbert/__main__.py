"""``python -m vcfbert``, which is what ``torchrun -m`` needs."""

from vcfbert.cli.app import main

if __name__ == "__main__":
    main()
