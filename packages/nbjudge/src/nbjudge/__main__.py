"""`python -m nbjudge`: the same as `nbjudge`, in the environment of that Python."""

from nbjudge.cli import main

if __name__ == "__main__":
    main()
