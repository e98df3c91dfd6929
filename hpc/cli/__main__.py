"""Entry point `python -m polarcast.hpc.cli`, for launchers that start modules."""

from polarcast.hpc.cli.app import main

if __name__ == "__main__":
    main()
