"""``python -m agile3d_cli`` is the command ``agile3d``."""

from agile3d_cli.cli.app import main

if __name__ == "__main__":
    main()
