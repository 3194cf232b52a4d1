"""The articles' evaluation command: translates its flags into one public call."""

import sys

if __name__ == "__main__":
    sys.path.pop(0)  # this folder holds an evaluate.py, which must not shadow the library of that name
    from nacre.cli.articles import evaluate  # after the path is put right

    evaluate()
