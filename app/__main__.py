"""`python -m app` is `scopegate`."""

from app.cli import main

if __name__ == "__main__":
    main()
