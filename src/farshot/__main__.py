"""`python -m farshot`: the same as the `farshot` command."""

from farshot.cli.root import main

if __name__ == "__main__":
    main()
