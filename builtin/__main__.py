"""`python -m builtin`: see steps.py. Processes that draw import this file, so it imports nothing."""

if __name__ == "__main__":
    from .steps import main

    main()
