"""`python -m dcp_core`: the command line."""

from dcp_core.cli import main

if __name__ == "__main__":
    main(prog_name="python -m dcp_core")
