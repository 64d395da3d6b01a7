"""`python -m cvae`."""

from cvae.cli import main

if __name__ == "__main__":
    main(prog_name="cvae")
