"""The articles' training command: translates its flags into one public call."""

import sys

if __name__ == "__main__":
    sys.path.pop(0)  # this folder holds an evaluate.py, which must not shadow the library of that name
    from nacre.cli.articles import train_bash  # after the path is put right

    train_bash()
