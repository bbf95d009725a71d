"""``python -m pijobs`` is ``pijobs``."""

from pijobs.cli.main import main

if __name__ == "__main__":
    main()
