"""`python -m loraloom`: the same as the command `loraloom`."""

from loraloom.cli import main

if __name__ == "__main__":
    main()
