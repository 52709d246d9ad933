"""What `secondnature` and `python -m secondnature` start: Ctrl-C is no traceback from the first moment on."""

import sys


def main() -> None:
    try:
        from secondnature.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
