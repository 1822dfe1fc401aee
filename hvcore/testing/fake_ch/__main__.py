"""`python -m hvcore.testing.fake_ch`: the fake, with the real program's command line."""

from __future__ import annotations

import sys

from hvcore.testing.fake_ch.process import main

sys.exit(main())
