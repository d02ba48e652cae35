"""``python -m grctl``: the command line, as ``grctl-client``."""

from grctl.cli import main

if __name__ == "__main__":
    main()
