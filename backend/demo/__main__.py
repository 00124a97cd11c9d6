"""`python -m backend.demo`: says so where Python is too old, before anything newer is read."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - whoever starts this by hand may have an older one
    sys.exit("This needs Python 3.11 or newer; you have {}.{}.".format(*sys.version_info))

from backend.demo.run import main

sys.exit(main())
